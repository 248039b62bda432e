// A bundle's settings and self-test, as its document holds them. `docs/bundle-format.md`.

import { BundleError } from "./errors.js";
import { isObject } from "./json.js";
import { POLICIES } from "./rules.js";
import { hasExactly } from "./tensors.js";

/** @typedef {import("./json.js").Json} Json */
/** @typedef {import("./types.js").Ratings} Ratings */
/** @typedef {import("./types.js").SelfTest} SelfTest */

const SETTINGS = [
  ...["max_steps", "margins", "policy", "low", "high"],
  ...["never", "mechanism", "temperature", "leak"],
];
const CASE = ["record", "budget", "release", "posterior"];
const MOST_STEPS = 1000;
const MOST_STOPS = 64; // on a way whose every stop is kept
const MOST_CASES = 8;

/**
 * Read the settings; unknown ones are refused, since they would change the release.
 *
 * @param {Json} value
 * @param {number} features
 * @returns {import("./types.js").Settings}
 */
export function readSettings(value, features) {
  if (!isObject(value) || !hasExactly(Object.keys(value), SETTINGS)) {
    throw new BundleError("settings missing or unknown");
  }
  const { mechanism, policy } = value;
  if (mechanism !== "targets" && mechanism !== "answers") {
    throw new BundleError("mechanism must be targets or answers");
  }
  const known = POLICIES.find((each) => each === policy);
  if (known === undefined) throw new BundleError(`policy must be one of ${POLICIES.join(", ")}`);
  const [low, high] = [legal("low", value.low, features), legal("high", value.high, features)];
  const worst = low.findIndex((each, feature) => each > high[feature]);
  if (worst >= 0) {
    throw new BundleError(`the lowest legal value of feature ${worst} is above its highest`);
  }
  const settings = {
    maxSteps: readMaxSteps(value.max_steps, mechanism),
    margins: readMargins(value.margins),
    policy: known,
    low,
    high,
    never: readNever(value.never, features),
    mechanism: /** @type {"targets" | "answers"} */ (mechanism),
    temperature: amount("temperature", value.temperature),
    leak: amount("leak", value.leak),
  };
  if (settings.temperature === 0) throw new BundleError("temperature must be above 0");
  if (settings.leak >= 1) throw new BundleError("leak must lie in [0, 1)");
  if (mechanism === "answers" && settings.margins.length > 0) {
    throw new BundleError("margins are for the mechanism of targets; that of answers has none");
  }
  if (mechanism === "targets" && (settings.temperature !== 1 || settings.leak !== 0)) {
    throw new BundleError("temperature and leak are for the mechanism of answers");
  }
  return settings;
}

/**
 * @param {Json} value
 * @param {"targets" | "answers"} mechanism
 */
function readMaxSteps(value, mechanism) {
  const most = mechanism === "answers" ? MOST_STOPS : MOST_STEPS;
  if (value === null) return null;
  if (typeof value === "bigint" && value >= 1n && value <= most) return Number(value);
  throw new BundleError(`max_steps must be in 1..${most}, or null`);
}

/**
 * @param {Json} value
 * @returns {[number, number][]}
 */
function readMargins(value) {
  if (!Array.isArray(value)) throw new BundleError("margins must be a list of lists");
  /** @type {[number, number][]} */
  const margins = value.map((point) => {
    if (!Array.isArray(point) || point.length !== 2) {
      throw new BundleError("margins must be (budget, margin) pairs");
    }
    return [amount("margins", point[0]), amount("margins", point[1])];
  });
  if (margins.some(([budget], i) => i > 0 && budget <= margins[i - 1][0])) {
    throw new BundleError("margins must ascend by budget");
  }
  return margins;
}

/**
 * @param {Json} value
 * @param {number} features
 */
function readNever(value, features) {
  const never = Array.isArray(value) ? value.map((each) => feature(each, features)) : [NaN];
  if (!ascending(never)) {
    throw new BundleError("never must list features, ascending, each once, and only known ones");
  }
  return never;
}

/**
 * Return one number a feature, all in [0, 1].
 *
 * @param {string} what
 * @param {Json} value one number, or as many as there are features
 * @param {number} features
 */
function legal(what, value, features) {
  const numbers = Array.isArray(value)
    ? value.map((each) => amount(what, each))
    : new Array(features).fill(amount(what, value));
  if (numbers.length !== features || numbers.some((number) => number > 1)) {
    throw new BundleError(`${what} must be one number in 0..1, or ${features}, one a feature`);
  }
  return Float64Array.from(numbers);
}

/**
 * Read a self-test.
 *
 * @param {Json} value
 * @param {number[]} sizes the layers
 * @returns {SelfTest[]}
 */
export function readCases(value, sizes) {
  if (!Array.isArray(value) || value.length > MOST_CASES) {
    throw new BundleError(`its self_test must be a list of at most ${MOST_CASES} cases`);
  }
  return value.map((each, number) => {
    const read = isObject(each) && hasExactly(Object.keys(each), CASE) ? each : null;
    const [record, release] = [ratings(read?.record, sizes[0]), ratings(read?.release, sizes[0])];
    const [budget, posterior] = [numberOf(read?.budget), shares(read?.posterior)];
    const sound = budget > 0 && budget < Infinity && posterior?.length === sizes[sizes.length - 1];
    if (record && release && posterior && sound) return { record, budget, release, posterior };
    throw new BundleError(`case ${number} of its self_test is none of an attribute bundle`);
  });
}

/**
 * Return a list of [feature, value] as a record, null unless ascending and in (0, 1].
 *
 * @param {Json | undefined} value
 * @param {number} features
 * @returns {Ratings | null}
 */
function ratings(value, features) {
  if (!Array.isArray(value)) return null;
  /** @type {Ratings} */
  const record = { feature: [], value: [] };
  for (const entry of value) {
    if (!Array.isArray(entry) || entry.length !== 2) return null;
    record.feature.push(feature(entry[0], features));
    record.value.push(numberOf(entry[1]));
  }
  const legal = record.value.every((each) => each > 0 && each <= 1);
  return legal && ascending(record.feature) ? record : null;
}

/** @param {Json | undefined} value */
function shares(value) {
  const numbers = Array.isArray(value) ? value.map(numberOf) : [NaN];
  return numbers.every((each) => each >= 0 && each <= 1) ? numbers : null;
}

/**
 * Return the number of a feature, NaN if there is none such.
 *
 * @param {Json} value
 * @param {number} features
 */
function feature(value, features) {
  return typeof value === "bigint" && value >= 0n && value < features ? Number(value) : NaN;
}

/** @param {number[]} numbers */
function ascending(numbers) {
  return numbers.every((each, i) => (i === 0 ? each >= 0 : each > numbers[i - 1]));
}

/**
 * Return a number, finite and not negative.
 *
 * @param {string} what
 * @param {Json} value
 */
function amount(what, value) {
  const number = numberOf(value);
  if (number >= 0 && number < Infinity) return number;
  throw new BundleError(`${what} must be made of finite numbers, not negative`);
}

/**
 * Return what JSON holds as a number, NaN if it is none.
 *
 * @param {Json | undefined} value
 */
export function numberOf(value) {
  return typeof value === "number" || typeof value === "bigint" ? Number(value) : NaN;
}
