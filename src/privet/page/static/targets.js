// Phase I of the mechanism of targets: SP-ASPP's Algorithm 1 as printed, with AttriGuard's greedy
// search filled in. Costs count changed entries.

import { largest } from "./network.js";
import { Way, narrowed } from "./way.js";

/** @typedef {import("./paths.js").Stop} Stop */

/**
 * Search, for every class, a small change that makes the network say it.
 *
 * Each step follows the gradient of the target's logit. A pair that no change helps is given up.
 *
 * @param {import("./network.js").Network} network
 * @param {import("./types.js").Ratings} record
 * @param {{maxSteps: number, margin: number, limits: import("./rules.js").Limits}} how `margin`:
 *   search on until the target's logit leads the runner-up by this much
 * @returns {Stop[]} one a class
 */
export function searchTargets(network, record, { maxSteps, margin, limits }) {
  const narrow = narrowed(network, limits);
  const layers = network.forward(network.first(record));
  const logits = layers[layers.length - 1];
  const label = largest(logits);
  return Array.from(logits, (_, target) => {
    if (target === label) return { changes: [], logits, target, reached: true };
    const way = new Way(limits, narrow, layers[0]);
    return perturb(network, way, { layers, target, maxSteps, margin });
  });
}

/**
 * Change a record step by step until the network says the target.
 *
 * @param {import("./network.js").Network} network
 * @param {Way} way
 * @param {{layers: Float32Array[], target: number, maxSteps: number, margin: number}} how
 * @returns {Stop}
 */
function perturb(network, way, { layers, target, maxSteps, margin }) {
  for (let step = 0; step < maxSteps && !leads(layers, target, margin); step++) {
    const change = way.best(network.backward(layers, target));
    if (change === null) break;
    way.change(change, true);
    layers = network.forward(way.first);
  }
  const logits = layers[layers.length - 1];
  return { changes: changed(way), logits, target, reached: largest(logits) === target };
}

/**
 * Tell whether the target's logit is the largest, and leads by the margin.
 *
 * @param {Float32Array[]} layers
 * @param {number} target
 * @param {number} margin
 */
function leads(layers, target, margin) {
  const logits = layers[layers.length - 1];
  const lead = Math.fround(logits[target] - logits[largest(logits, target)]);
  return largest(logits) === target && lead >= margin;
}

/**
 * List the entries that ended up different.
 *
 * @param {Way} way
 */
function changed({ limits, value }) {
  const { free, low, high } = limits;
  /** @type {Stop["changes"]} */
  const changes = [];
  free.forEach((feature, place) => {
    if (value[place] === limits.value[place]) return;
    // In full precision: 0.8 rounded to float32 would stand out among a person's own scores.
    const after = value[place] === Math.fround(high[place]) ? high[place] : low[place];
    changes.push({ feature, after });
  });
  return changes;
}
