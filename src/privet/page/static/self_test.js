// A bundle's self-test: made-up records with the answers that every implementation must give.

import { sha256 } from "./digest.js";
import { BundleError } from "./errors.js";
import { posterior, release, search } from "./protect.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Ratings} Ratings */

const WITHIN = 1e-6; // of every released number
const POSTERIOR_WITHIN = 1e-4;

/**
 * Try every case of a bundle's self-test.
 *
 * @param {Bundle} bundle
 * @returns {Promise<void>} rejects with a `BundleError` that names the case which differs
 */
export async function runSelfTest(bundle) {
  const seed = new TextEncoder().encode("privet self-test 1");
  const key = await sha256(seed); // public: it protects nobody
  for (const [number, each] of bundle.selfTest.entries()) {
    const plan = search(bundle, each.record)(each.budget);
    const { record } = await release(plan, key, each.record);
    const same =
      record.feature.length === each.release.feature.length &&
      record.feature.every((feature, i) => feature === each.release.feature[i]) &&
      near(record.value, each.release.value, WITHIN) &&
      near([...posterior(bundle, each.record)], each.posterior, POSTERIOR_WITHIN);
    if (!same) {
      throw new BundleError(
        `case ${number} of the self-test has another answer here; do not use this bundle in this ` +
          "browser, and tell its maker",
      );
    }
  }
}

/**
 * @param {number[]} one
 * @param {number[]} other
 * @param {number} within
 */
function near(one, other, within) {
  return one.every((number, i) => Math.abs(number - other[i]) <= within);
}
