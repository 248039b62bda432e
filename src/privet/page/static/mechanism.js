// Phase II: which candidate to release, decided once and for all.

import { OptionError } from "./errors.js";

const NEGLIGIBLE = 1e-18; // a prior this small counts as zero, lest the root drown in rounding
const DOMAIN = new TextEncoder().encode("privet one-time randomness 1\n");
export const KEY_BYTES = 32;

/**
 * Choose probabilities over candidates, closest to `prior`, that keep to the budget.
 *
 * SP-ASPP's equation (6): where the prior's mean cost is within the budget it is the answer.
 * Elsewhere the probabilities are `p / (1 + mu (c - budget))` with the mu > 0 at which the mean
 * cost is the budget. It is found by bisection of `s = 1 - mu (budget - min c)` in [0, 1], and
 * rounded to the side that keeps within budget.
 *
 * @param {Float64Array} prior sums to 1
 * @param {Float64Array} costs finite, not negative
 * @param {number} budget
 * @returns {Float64Array}
 */
export function leastDivergence(prior, costs, budget) {
  const p = shares(prior);
  if (dot(p, costs) <= budget) return p;
  const cheapest = costs.reduce((one, other) => Math.min(one, other));
  if (cheapest >= budget) {
    throw new OptionError(`a budget of ${budget} is too small; it must be above ${cheapest}`);
  }
  const extra = costs.map((cost) => cost - cheapest);
  return solve(p, extra, budget - cheapest);
}

/**
 * Solve for a budget that binds, given costs and budget above the cheapest candidate.
 *
 * @param {Float64Array} p
 * @param {Float64Array} extra
 * @param {number} room
 */
function solve(p, extra, room) {
  /** @param {number} s */
  const fitted = (s) =>
    p.map((share, c) =>
      share > NEGLIGIBLE ? (share * room) / ((1 - s) * extra[c] + s * room) : 0,
    );
  let [low, high] = [0, 1];
  // Halving [0, 1] first finds the root's exponent, then its 53 bits.
  for (let round = 0; round < 110; round++) {
    const middle = 0.5 * (low + high);
    const spent = fitted(middle).reduce((sum, share, c) => sum + share * (extra[c] - room), 0);
    if (spent > 0) high = middle;
    else low = middle;
  }
  const psi = fitted(low);
  psi[extra.indexOf(0)] += Math.max(0, 1 - sumOf(psi));
  return shares(psi);
}

/**
 * Return the candidate at which the sum of the probabilities so far passes `u` times their sum.
 *
 * @param {Float64Array} psi
 * @param {number} u in [0, 1)
 */
export function choose(psi, u) {
  const bar = u * sumOf(psi);
  let sum = 0;
  return psi.findIndex((share) => (sum += share) > bar);
}

/**
 * Return one number in [0, 1): the same for the same record and key, for ever.
 *
 * The first 53 bits of HMAC-SHA256, over 2^53, of the record's non-zero entries in float32.
 *
 * @param {Uint8Array} key 32 secret bytes
 * @param {import("./types.js").Ratings} record
 * @returns {Promise<number>}
 */
export async function uniform(key, { feature, value }) {
  if (key.length !== KEY_BYTES) {
    throw new OptionError(`a key has ${KEY_BYTES} bytes; this one has ${key.length}`);
  }
  const present = [...feature.keys()].filter((i) => Math.fround(value[i]) !== 0);
  const message = new Uint8Array(DOMAIN.length + 8 * present.length);
  message.set(DOMAIN);
  const numbers = new DataView(message.buffer, DOMAIN.length);
  present.forEach((i, at) => {
    numbers.setUint32(4 * at, feature[i], true);
    numbers.setFloat32(4 * (present.length + at), value[i], true);
  });
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const secret = await crypto.subtle.importKey("raw", key.slice(), algorithm, false, ["sign"]);
  const digest = new DataView(await crypto.subtle.sign("HMAC", secret, message));
  return Number(digest.getBigUint64(0) >> 11n) / 2 ** 53;
}

/** @param {Float64Array} weights */
export function shares(weights) {
  const total = sumOf(weights);
  return weights.map((weight) => weight / total);
}

/** @param {Float64Array} numbers */
export function sumOf(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0);
}

/**
 * @param {Float64Array} one
 * @param {Float64Array} other
 */
export function dot(one, other) {
  return one.reduce((sum, number, i) => sum + number * other[i], 0);
}
