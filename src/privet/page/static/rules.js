// What a person lets Algorithm 1 change: which entries of a record, and to which values.

import { OptionError } from "./errors.js";

/** @typedef {import("./types.js").Policy} Policy */

/** @type {readonly Policy[]} */
export const POLICIES = ["modify_add", "modify_exist", "add_new"];

/**
 * The entries of one record that may change: the features, ascending, and three numbers each.
 *
 * @typedef {object} Limits
 * @property {Int32Array} free
 * @property {Float32Array} value as it is in the record
 * @property {Float64Array} low lowest legal value
 * @property {Float64Array} high highest legal value
 */

/**
 * Work out rules, over a bundle's settings, for a record.
 *
 * @param {import("./types.js").Bundle} bundle
 * @param {import("./types.js").Ratings} record
 * @param {import("./types.js").Rules} rules
 * @returns {Limits}
 */
export function workOut({ network, settings }, record, rules) {
  const policy = rules.policy ?? settings.policy;
  if (!POLICIES.includes(policy)) {
    throw new OptionError(`policy must be one of ${POLICIES.join(", ")}; got ${policy}`);
  }
  const values = new Float64Array(network.features);
  record.feature.forEach((feature, i) => (values[feature] = record.value[i]));
  const fixed = new Uint8Array(network.features);
  for (const feature of settings.never) fixed[feature] = 1;
  for (const feature of rules.keep ?? []) fixed[feature] = 1;
  const free = Int32Array.from(values.keys()).filter((feature) => {
    const present = values[feature] !== 0;
    return !fixed[feature] && (policy === "modify_add" || present === (policy === "modify_exist"));
  });
  return {
    free,
    value: Float32Array.from(free, (feature) => values[feature]),
    low: Float64Array.from(free, (feature) => settings.low[feature]),
    high: Float64Array.from(free, (feature) => settings.high[feature]),
  };
}
