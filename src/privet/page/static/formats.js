// A person's file: how its records are read and written.
//
// Every number is written in one style, and ratings in ascending order, whatever the file looked
// like: an entry that stood out by its spelling or place would betray the noise.

import { readRows, writeRow } from "./cells.js";
import { DataError } from "./errors.js";
import { isWord, number, shortest, spelled, stripped, words } from "./spelling.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Ratings} Ratings */
/** @typedef {import("./types.js").Table} Table */

/**
 * Read a person's records: a table if the name ends in `.csv` or `.tsv`, else lines of
 * `index:score` pairs.
 *
 * @param {string} name the file's name
 * @param {ArrayBuffer} content its bytes, which must be UTF-8
 * @param {Bundle} bundle
 * @returns {Table} throws a `DataError` naming file, line and value
 */
export function readFile(name, content, bundle) {
  try {
    const text = decoded(content);
    const ending = /[^/]\.(csv|tsv)$/i.exec(name);
    const table = ending
      ? readTable(text, ending[1].toLowerCase(), bundle)
      : readPairs(text, bundle.network.features);
    if (table.records.length === 0) throw new DataError("it holds no records");
    return table;
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`${name}: ${error.message}`);
  }
}

/** @param {ArrayBuffer} bytes */
function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new DataError("it is not readable text (UTF-8)");
  }
}

/**
 * Read lines of pairs between blanks; an empty line is an empty record.
 *
 * @param {string} text
 * @param {number} features
 * @returns {Table}
 */
function readPairs(text, features) {
  const lines = text.split(/\r\n|\r|\n/);
  if (lines[lines.length - 1] === "") lines.pop();
  return {
    records: lines.map((line, at) => {
      const entries = words(line).map((pair) => readPair(`line ${at + 1}`, pair, features));
      entries.sort(([one], [other]) => one - other);
      const twice = entries.find(([feature], i) => feature === entries[i - 1]?.[0]);
      if (twice) throw new DataError(`line ${at + 1}: index ${twice[0]} stands there twice`);
      return recordOf(entries.filter(([, value]) => value !== 0));
    }),
    write: (records) =>
      records
        .map(({ feature, value }) => feature.map((each, i) => `${each}:${spelled(value[i])}`))
        .map((pairs) => `${pairs.join(" ")}\n`)
        .join(""),
  };
}

/**
 * @param {string} place
 * @param {string} pair
 * @param {number} features
 * @returns {[number, number]}
 */
function readPair(place, pair, features) {
  const [, index, text] = /^([0-9]{1,9}):(.*)$/s.exec(pair) ?? [];
  if (index === undefined) {
    throw new DataError(`${place}: ${quoted(pair)} is not an index:score pair such as 17:0.8`);
  }
  if (Number(index) >= features) {
    throw new DataError(`${place}: index ${index} is out of range; indices are 0..${features - 1}`);
  }
  const score = number(text);
  if (score >= 0 && score <= 1) return [Number(index), score];
  throw new DataError(`${place}: score ${quoted(text)} of index ${index} is not in 0..1`);
}

/**
 * Read a table of cells, with or without a header.
 *
 * @param {string} text
 * @param {string} ending `csv` or `tsv`
 * @param {Bundle} bundle
 * @returns {Table}
 */
function readTable(text, ending, { network: { features }, featureNames }) {
  const first = text.split(/[\r\n]/, 1)[0];
  if (stripped(first) === "") throw new DataError("it is empty, or its first line is");
  const semicolons = first.includes(";") && !first.includes(",");
  const separator = ending === "tsv" ? "\t" : semicolons ? ";" : ",";
  const rows = [...readRows(text, separator)];
  const header = isHeader(rows[0].cells, featureNames, features) ? rows[0].cells : null;
  if (header) rows.shift();
  const columns = header ? match(header, featureNames, features) : [...Array(features).keys()];
  return {
    records: rows.map(({ line, cells }) => readCells(`line ${line}`, cells, columns)),
    write: (records) => {
      const lines = records.map(({ feature, value }) => {
        const cells = new Array(features).fill("0");
        feature.forEach((each, i) => (cells[columns[each]] = shortest(value[i])));
        return `${cells.join(separator)}\n`;
      });
      return [header ? writeRow(header, separator) : "", ...lines].join("");
    },
  };
}

/**
 * Tell a header from a record: words only, or exactly the features' names. A first line with any
 * other number or gap is a record, never passed through unprotected; numbers that may be either
 * are refused.
 *
 * @param {string[]} cells
 * @param {string[] | null} names
 * @param {number} features
 */
function isHeader(cells, names, features) {
  if (cells.every(isWord)) return true;
  // A no-break space is a blank around a name, but not around a number.
  const found = cells.map(stripped);
  const named = names !== null && same([...found].sort(), names.map(stripped).sort());
  if (named && !found.every((name) => number(name) >= 0 && number(name) <= 1)) return true;
  if (named || same(found, [...Array(features).keys()].map(String))) {
    throw new DataError(
      "line 1: its numbers may be names of columns or a record; leave such a header out, and " +
        "spell such a record with points: 0.0, 1.0",
    );
  }
  return false;
}

/**
 * @param {string[]} one
 * @param {string[]} other
 */
function same(one, other) {
  return one.length === other.length && one.every((name, i) => name === other[i]);
}

/**
 * Return the column of every feature; without names, columns count from the left.
 *
 * @param {string[]} header
 * @param {string[] | null} featureNames
 * @param {number} features
 */
function match(header, featureNames, features) {
  if (featureNames === null) {
    if (header.length === features) return [...header.keys()];
    throw new DataError(`the header has ${header.length} columns, not ${features}`);
  }
  const [cells, names] = [header.map(stripped), featureNames.map(stripped)];
  const places = new Map(cells.map((name, column) => [name, column]));
  const known = new Set(names);
  const missing = names.filter((name) => !places.has(name));
  const unknown = cells.filter((name) => !known.has(name));
  if (missing.length > 0 || unknown.length > 0) {
    const wrong = [];
    if (missing.length > 0) wrong.push(`has no ${listed(missing)}`);
    if (unknown.length > 0) wrong.push(`has ${listed(unknown)}, unknown to the bundle`);
    throw new DataError(`its header ${wrong.join(" and ")}; name the bundle's features only`);
  }
  const twice = cells.find((name, column) => places.get(name) !== column);
  if (twice !== undefined) throw new DataError(`its header names ${quoted(twice)} twice`);
  return names.map((name) => /** @type {number} */ (places.get(name)));
}

/**
 * @param {string} place
 * @param {string[]} cells
 * @param {number[]} columns the column of every feature
 * @returns {Ratings}
 */
function readCells(place, cells, columns) {
  if (cells.length !== columns.length) {
    throw new DataError(`${place}: ${cells.length} columns, not ${columns.length}`);
  }
  /** @type {[number, number][]} */
  const entries = [];
  columns.forEach((column, feature) => {
    const value = number(cells[column]);
    if (!(value >= 0 && value <= 1)) {
      const text = quoted(cells[column]);
      throw new DataError(`${place}, column ${column + 1}: ${text} is not in 0..1`);
    }
    if (value !== 0) entries.push([feature, value]);
  });
  return recordOf(entries);
}

/**
 * @param {[number, number][]} entries ascending, none of value 0
 * @returns {Ratings}
 */
function recordOf(entries) {
  return { feature: entries.map(([feature]) => feature), value: entries.map(([, value]) => value) };
}

/**
 * Name the first three of many.
 *
 * @param {string[]} names
 */
function listed(names) {
  const some = names.slice(0, 3).map(quoted).join(", ");
  return names.length > 3 ? `${some} and ${names.length - 3} more` : some;
}

/** @param {string} text */
function quoted(text) {
  return `'${text.slice(0, 40)}'`;
}
