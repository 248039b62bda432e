// JSON of strangers, read as strictly as privet's Python reads it.
//
// Integers become `bigint`, so that `3` and `3.0` stay two things: a size may be only the first.

import { BundleError } from "./errors.js";

/** @typedef {null | boolean | number | bigint | string | JsonList | JsonObject} Json */
/** @typedef {Json[]} JsonList */
/** @typedef {{[key: string]: Json}} JsonObject */

const MAX_DEPTH = 32; // of nested objects and lists
const MOST_DIGITS = 4300; // of an integer, as in Python
/** @type {Map<string, boolean | null>} */
const WORDS = new Map([["true", true], ["false", false], ["null", null]]);
const BLANK = /[ \t\n\r]*/y;
const WORD = /true|false|null/y;
const NUMBER = /(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPE = /\\(?:(["\\/bfnrt])|u([0-9a-fA-F]{4}))/y;
/** @type {{[letter: string]: string}} */
const ESCAPED = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/**
 * Read a JSON object: no NaN, no infinity, no key twice, no deep nesting.
 *
 * @param {string} text
 * @returns {JsonObject} without prototype
 */
export function parse(text) {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.end();
  if (!isObject(value)) throw new BundleError("its JSON must be an object");
  return value;
}

/**
 * @param {Json | undefined} value
 * @returns {value is JsonObject}
 */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Return a value of numbers that anybody can work with; large integers are rounded.
 *
 * @param {Json} value
 * @returns {unknown}
 */
export function plain(value) {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

/** A place in a text. */
class Reader {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  /** @param {number} depth @returns {Json} */
  value(depth) {
    this.match(BLANK);
    const next = this.text[this.at];
    if (next === '"') return this.string();
    if (next === "{" || next === "[") {
      if (depth === MAX_DEPTH) {
        throw new BundleError(`its JSON is nested more than ${MAX_DEPTH} levels deep`);
      }
      this.at += 1;
      return next === "{" ? this.object(depth + 1) : this.list(depth + 1);
    }
    const word = this.match(WORD);
    return word ? /** @type {boolean | null} */ (WORDS.get(word[0])) : this.number();
  }

  /** @param {number} depth */
  object(depth) {
    /** @type {JsonObject} */
    const value = Object.create(null); // in which "__proto__" is a key like any other
    if (this.closes("}")) return value;
    do {
      this.match(BLANK);
      const key = this.string();
      if (key in value) throw new BundleError("its JSON holds a key twice");
      this.expect(":");
      value[key] = this.value(depth);
    } while (this.goesOn("}"));
    return value;
  }

  /** @param {number} depth */
  list(depth) {
    /** @type {JsonList} */
    const value = [];
    if (this.closes("]")) return value;
    do value.push(this.value(depth));
    while (this.goesOn("]"));
    return value;
  }

  string() {
    this.expect('"');
    const parts = [];
    for (;;) {
      parts.push(this.match(PLAIN)?.[0]);
      if (this.text[this.at] === '"') break;
      const escape = this.match(ESCAPE);
      if (!escape) this.fail();
      const [, letter, code] = escape;
      parts.push(letter ? (ESCAPED[letter] ?? letter) : String.fromCharCode(parseInt(code, 16)));
    }
    this.at += 1;
    return parts.join("");
  }

  number() {
    const found = this.match(NUMBER);
    if (!found) this.fail();
    const [literal, integer, fraction, exponent] = found;
    if (fraction === undefined && exponent === undefined) {
      if (integer.length > MOST_DIGITS) throw new BundleError("its JSON holds an endless integer");
      return BigInt(integer);
    }
    const value = Number(literal);
    if (Number.isFinite(value)) return value;
    throw new BundleError(`its JSON holds the number ${literal.slice(0, 20)}`);
  }

  end() {
    this.match(BLANK);
    if (this.at < this.text.length) this.fail();
  }

  /** @param {string} bracket */
  closes(bracket) {
    this.match(BLANK);
    if (this.text[this.at] !== bracket) return false;
    this.at += 1;
    return true;
  }

  /** @param {string} bracket */
  goesOn(bracket) {
    if (this.closes(bracket)) return false;
    this.expect(",");
    return true;
  }

  /** @param {string} mark */
  expect(mark) {
    this.match(BLANK);
    if (this.text[this.at] !== mark) this.fail();
    this.at += 1;
  }

  /** @param {RegExp} pattern sticky */
  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  /** @returns {never} */
  fail() {
    throw new BundleError(`its JSON is damaged at character ${this.at}`);
  }
}
