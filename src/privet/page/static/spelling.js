// Numbers as text, read and spelled as Python does: the same file becomes the same file.

// What Python takes for blanks around numbers; `\s` is another set. Around words there are more.
const BLANKS = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const AROUND_NUMBERS = new RegExp(`^[${BLANKS}]+|[${BLANKS}]+$`, "g");
const BETWEEN = new RegExp(`[${BLANKS}\\x1c-\\x1f]+`);
const AROUND = new RegExp(`^${BETWEEN.source}|${BETWEEN.source}$`, "g");
const NUMBER = spelledWith("[0-9]+");
const NUMBER_TO_PYTHON = spelledWith("[0-9](?:_?[0-9])*");
const ENDLESS = /^[-+]?(?:inf(?:inity)?|nan)$/i;

/** @param {string} text */
export function stripped(text) {
  return text.replace(AROUND, "");
}

/** @param {string} text */
export function words(text) {
  return text.split(BETWEEN).filter((word) => word !== "");
}

/**
 * Return the number that a text spells, NaN if none: of the digits 0 to 9, with or without a point
 * among or beside them, a sign before, an exponent behind, and ASCII blanks around.
 *
 * @param {string} text
 */
export function number(text) {
  return NUMBER.test(text) ? Number(text) : NaN;
}

/**
 * Tell whether a cell is neither empty nor a number in any script, `nan` included: a record of
 * numbers that `number` refuses is no header, which would pass unprotected.
 *
 * @param {string} text
 */
export function isWord(text) {
  const ascii = inAscii(text);
  return stripped(text) !== "" && !NUMBER_TO_PYTHON.test(ascii) && !ENDLESS.test(ascii);
}

/**
 * Spell a number with the fewest digits that read back exactly: 1.0, 0.2, 1e-05.
 *
 * @param {number} value
 */
export function spelled(value) {
  const [digits, power] = value.toExponential().split("e");
  const exponent = Number(power);
  if (value !== 0 && (exponent < -4 || exponent >= 16)) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${digits}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

/**
 * Spell a number without the end that says nothing: 1, 0, 0.2.
 *
 * @param {number} value
 */
export function shortest(value) {
  return spelled(value).replace(/\.0$/, "");
}

/** @param {string} digits */
function spelledWith(digits) {
  const value = `(?:${digits}(?:\\.(?:${digits})?)?|\\.${digits})(?:e[-+]?${digits})?`;
  return new RegExp(`^[ \\t-\\r]*[-+]?${value}[ \\t-\\r]*$`, "i");
}

/**
 * Return a text without blanks around it, digits of other scripts by their value.
 *
 * @param {string} text
 */
function inAscii(text) {
  return text.replace(AROUND_NUMBERS, "").replace(/(?![0-9])\p{Nd}/gu, (digit) => {
    // Decimal digits stand in runs of ten, from 0 to 9.
    const code = /** @type {number} */ (digit.codePointAt(0));
    let start = code;
    while (/\p{Nd}/u.test(String.fromCodePoint(start - 1))) start -= 1;
    return String((code - start) % 10);
  });
}
