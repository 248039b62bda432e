// Names and numbers, as people read them.

/** @typedef {import("./types.js").Bundle} Bundle */

const LONGEST = 60;

/**
 * @param {Bundle} bundle
 * @param {number} number
 */
export function className(bundle, number) {
  return shown(bundle.classNames?.[number] ?? "") || `class ${number}`;
}

/**
 * @param {Bundle} bundle
 * @param {number} number
 */
export function featureName(bundle, number) {
  return shown(bundle.featureNames?.[number] ?? "") || `entry ${number}`;
}

/**
 * Return the number of the feature that a person calls by name or number, -1 if there is none.
 *
 * @param {Bundle} bundle
 * @param {string} wanted
 */
export function featureCalled(bundle, wanted) {
  const [text, names] = [wanted.trim(), bundle.featureNames];
  const named = names && text ? names.findIndex((name) => name.trim() === text) : -1;
  if (named >= 0) return named;
  // Where entries have names, "entry 9" may be part of one, and is not number 9.
  const digits = names ? text : text.replace(/^entry\s+/i, "");
  const number = /^\d{1,9}$/.test(digits) ? Number(digits) : -1;
  return number < bundle.settings.low.length ? number : -1;
}

/**
 * Return foreign text in one line, not too long, without marks that act. What runs from right to
 * left does so by itself alone.
 *
 * @param {string} text
 */
export function shown(text) {
  // Two invisible letters are part of how some scripts are spelled.
  const safe = text.replace(/(?![\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
  const letters = [...safe.replace(/^[\s\u200c\u200d]+|[\s\u200c\u200d]+$/g, "")];
  const long = letters.length > LONGEST;
  const short = long ? `${letters.slice(0, LONGEST - 1).join("")}\u2026` : letters.join("");
  return /^[\x20-\x7e]*$/.test(short) ? short : `\u2068${short}\u2069`;
}

/**
 * Return a fraction as a percentage: whole, but for small ones.
 *
 * @param {number} fraction
 */
export function percent(fraction) {
  const hundred = 100 * fraction;
  if (hundred > 0 && hundred < 0.05) return "<0.1%";
  if (hundred < 100 && hundred >= 99.5) return ">99%";
  return `${hundred < 9.95 && hundred > 0 ? hundred.toFixed(1) : hundred.toFixed(0)}%`;
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/**
 * Return a change in plain words.
 *
 * @param {Bundle} bundle
 * @param {import("./types.js").Change} change
 */
export function changeInWords(bundle, change) {
  const name = featureName(bundle, change.feature);
  if (change.before === 0) return `add ${name}, score ${score(change.after)}`;
  if (change.after === 0) return `remove ${name}, score ${score(change.before)}`;
  return `change ${name}, score ${score(change.before)}, to ${score(change.after)}`;
}

/** @param {number} value */
export function score(value) {
  return String(Number(value.toPrecision(6)));
}
