// All records of a file, one after the other, without freezing the page.

import { painted } from "./dom.js";
import { mayChange, posterior, release, search } from "./protect.js";

/** @typedef {import("./types.js").Ratings} Ratings */

/**
 * What was done to one record, for the list of changes.
 *
 * @typedef {object} Entry
 * @property {import("./types.js").Release} release
 * @property {boolean} free whether anything could have changed
 * @property {Float64Array} before what the model made of the unchanged record
 */

const FRAME = 40; // milliseconds of work between two looks at the screen

/**
 * Protect records.
 *
 * @param {import("./types.js").Bundle} bundle
 * @param {Ratings[]} records
 * @param {object} how
 * @param {number} how.budget
 * @param {Uint8Array} how.key
 * @param {import("./types.js").Rules} how.rules
 * @param {AbortSignal} how.signal
 * @param {(done: number) => void} how.progress called now and then
 * @returns {Promise<Entry[]>} rejects with the signal's reason when it is aborted
 */
export async function protectAll(bundle, records, { budget, key, rules, signal, progress }) {
  /** @type {Entry[]} */
  const entries = [];
  let since = -Infinity;
  for (const record of records) {
    if (performance.now() - since > FRAME) {
      progress(entries.length);
      await painted();
      since = performance.now();
    }
    signal.throwIfAborted();
    const plan = search(bundle, record, rules)(budget);
    entries.push({
      release: await release(plan, key, record),
      free: mayChange(plan),
      before: posterior(bundle, record),
    });
  }
  progress(entries.length);
  return entries;
}
