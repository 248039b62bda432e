// Comma-separated cells, read and written as Python's csv module does.

import { DataError } from "./errors.js";

const LONGEST = 131_072; // characters of a cell

/**
 * Read the rows of a table one by one. A row is one line, and quotes end with their cell: what a
 * quote that was never closed would swallow are records. Empty lines are no rows.
 *
 * @param {string} text
 * @param {string} separator one character
 * @returns {Generator<{line: number, cells: string[]}>} with the number of each row's line
 */
export function* readRows(text, separator) {
  let line = 0;
  for (const row of text.split(/\r\n|\r|\n/)) {
    line += 1;
    if (row !== "") yield { line, cells: split(row, separator, line) };
  }
}

/**
 * @param {string} row
 * @param {string} separator
 * @param {number} line
 */
function split(row, separator, line) {
  const cells = [];
  let at = 0;
  do {
    const quoted = row[at] === '"';
    const end = quoted ? closing(row, at + 1) : row.indexOf(separator, at);
    const cell = row.slice(at + Number(quoted), end < 0 ? row.length : end);
    if (cell.length > LONGEST) {
      throw new DataError(`line ${line}: a cell has more than ${LONGEST} characters`);
    }
    cells.push(quoted ? cell.replaceAll('""', '"') : cell);
    at = end < 0 ? row.length : end + Number(quoted);
    if (at > row.length || (at < row.length && row[at] !== separator)) {
      throw new DataError(`line ${line} is no row of cells, each with its quotes closed`);
    }
  } while (at++ < row.length);
  return cells;
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
