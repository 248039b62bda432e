// The list of changes of a protected file: for the person's eyes only.

import { largest } from "./network.js";
import { changeInWords, className, counted, percent } from "./words.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./protect_file.js").Entry} Entry */

/**
 * Return the list as JSON, with the fields that `privet protect apply --changes` writes.
 *
 * @param {Bundle} bundle
 * @param {Entry[]} entries
 */
export function reportAsJson(bundle, entries) {
  const lines = entries.map(({ release, before }, record) => {
    const called = (/** @type {number} */ k) => (bundle.classNames ? bundle.classNames[k] : k);
    const guess = largest(before);
    return JSON.stringify({
      record,
      target: called(release.target),
      reached: release.reached,
      cost: release.cost,
      expected_cost: release.expectedCost,
      guess: called(guess),
      guess_after: called(largest(release.posterior)),
      posterior_before: rounded(before[guess]),
      posterior_after: rounded(release.posterior[guess]),
      changes: release.changes.map(({ feature, before: was, after }) => ({
        feature: bundle.featureNames ? bundle.featureNames[feature] : feature,
        before: was,
        after,
      })),
    });
  });
  return `[\n${lines.join(",\n")}\n]\n`;
}

/** @param {number} probability */
function rounded(probability) {
  return Number(probability.toFixed(6));
}

/**
 * Return the list in plain words.
 *
 * @param {Bundle} bundle
 * @param {Entry[]} entries
 */
export function reportAsText(bundle, entries) {
  const changed = entries.filter(({ release }) => release.cost > 0);
  const told = entries.flatMap((entry, number) =>
    entry.release.cost > 0 ? [recordInWords(bundle, entry, number)] : [],
  );
  return [
    "What was changed. Keep this to yourself: it tells what is made up.\n",
    ...told,
    `${counted(entries.length, "record")}, ${changed.length.toLocaleString("en")} of them changed.\n`,
  ].join("\n");
}

/**
 * @param {Bundle} bundle
 * @param {Entry} entry
 * @param {number} number
 */
function recordInWords(bundle, { release, before }, number) {
  const guess = largest(before);
  const lines = release.changes.map((change) => `    ${changeInWords(bundle, change)}\n`);
  return (
    `Record ${number + 1}: the model said ${className(bundle, guess)}, ${percent(before[guess])} sure; ` +
    `now it gives that ${percent(release.posterior[guess])}. Aims at ${className(bundle, release.target)}; ` +
    `${counted(release.cost, "entry", "entries")} changed:\n${lines.join("")}`
  );
}
