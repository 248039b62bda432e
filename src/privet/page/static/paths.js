// Phase I of the mechanism of answers: a fixed number of steps towards every class, every stop of
// which is a candidate. `docs/bundle-format.md`, "The walk".

import { largest } from "./network.js";
import { Way, narrowed } from "./way.js";

/**
 * One stop of a way.
 *
 * @typedef {object} Stop
 * @property {{feature: number, after: number}[]} changes in the order of the steps
 * @property {Float32Array} logits
 * @property {number} target
 * @property {boolean} reached whether the defense model says the target at some stop of the way
 */

/**
 * Walk from a record towards every class; the first stop returned is the unchanged record, and the
 * others stand in the order of classes and steps.
 *
 * @param {import("./network.js").Network} network
 * @param {import("./types.js").Ratings} record
 * @param {{steps: number, limits: import("./rules.js").Limits}} how
 * @returns {Stop[]}
 */
export function searchPaths(network, record, { steps, limits }) {
  const narrow = narrowed(network, limits);
  const layers = network.forward(network.first(record));
  const logits = layers[layers.length - 1];
  const label = largest(logits);
  /** @type {Stop[]} */
  const stops = [{ changes: [], logits, target: label, reached: true }];
  for (let target = 0; target < logits.length; target++) {
    if (target === label) continue;
    const way = new Way(limits, narrow, layers[0]);
    stops.push(...walk(network, way, { layers, target, steps }));
  }
  return unlike(stops);
}

/**
 * Leave out stops that make the same record as an earlier one, on the way to another target.
 *
 * @param {Stop[]} stops
 */
function unlike(stops) {
  const seen = new Set();
  return stops.filter(({ changes }) => {
    const made = changes.map(({ feature, after }) => `${feature}:${after}`).sort().join(" ");
    return !seen.has(made) && seen.add(made);
  });
}

/**
 * Walk towards one class, by the gradient of its logit's lead over the runner-up's.
 *
 * @param {import("./network.js").Network} network
 * @param {Way} way
 * @param {{layers: Float32Array[], target: number, steps: number}} how `layers` of the unchanged
 *   record
 */
function walk(network, way, { layers, target, steps }) {
  const { limits } = way;
  /** @type {Stop[]} */
  const stops = [];
  /** @type {Stop["changes"]} */
  let changes = [];
  for (let step = 0; step < steps; step++) {
    const against = largest(layers[layers.length - 1], target);
    const change = way.best(network.backward(layers, target, against));
    if (change === null) break;
    const { place, to } = change;
    changes = [...changes, { feature: limits.free[place], after: to }];
    way.change(change, false);
    layers = network.forward(way.first);
    stops.push({ changes, logits: layers[layers.length - 1], target, reached: false });
  }
  const reached = stops.some(({ logits }) => largest(logits) === target);
  return stops.map((stop) => ({ ...stop, reached }));
}
