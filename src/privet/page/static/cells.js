// Comma-separated cells, read and written as Python's csv module does.

import { DataError } from "./errors.js";

const LONGEST = 131_072; // characters of a cell

/**
 * Read the rows of a table one by one; empty lines are none.
 *
 * @param {string} text
 * @param {string} separator one character
 * @returns {Generator<{line: number, cells: string[]}>} with the number of each row's last line
 */
export function* readRows(text, separator) {
  const plain = new RegExp(`[^${separator}\\r\\n]*`, "y");
  let [at, line] = [0, 0];

  function field() {
    let value = "";
    if (text[at] === '"') {
      const end = closing(text, at + 1);
      value = text.slice(at + 1, end).replaceAll('""', '"');
      line += breaks(text.slice(at, end));
      at = end + 1;
    }
    plain.lastIndex = at;
    value += plain.exec(text)?.[0] ?? "";
    at = Math.max(at, plain.lastIndex);
    if (value.length > LONGEST) {
      throw new DataError(`line ${line + 1}: a cell has more than ${LONGEST} characters`);
    }
    return value;
  }

  while (at < text.length) {
    const cells = [];
    const start = at;
    do cells.push(field());
    while (text[at] === separator && ++at);
    const empty = at === start;
    at += text.startsWith("\r\n", at) ? 2 : 1;
    line += 1;
    if (!empty) yield { line, cells };
  }
}

/**
 * Return where a quoted text ends: at a quote that no other one follows.
 *
 * @param {string} text
 * @param {number} from
 */
function closing(text, from) {
  for (let at = text.indexOf('"', from); at >= 0; at = text.indexOf('"', at + 2)) {
    if (text[at + 1] !== '"') return at;
  }
  return text.length;
}

/** @param {string} text */
function breaks(text) {
  return text.match(/\r\n|\r|\n/g)?.length ?? 0;
}

/**
 * Spell a row, with quotes where they are needed.
 *
 * @param {string[]} cells
 * @param {string} separator
 */
export function writeRow(cells, separator) {
  if (cells.length === 1 && cells[0] === "") return '""\n';
  const quoted = cells.map((cell) => {
    const plain = !cell.includes(separator) && !/["\r\n]/.test(cell);
    return plain ? cell : `"${cell.replaceAll('"', '""')}"`;
  });
  return `${quoted.join(separator)}\n`;
}
