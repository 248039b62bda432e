// Both phases of Algorithm 1 for one record: search once, plan at any budget, release for ever.

import { answersOf, leastDivergenceOfAnswers } from "./answers.js";
import { OptionError } from "./errors.js";
import { choose, dot, leastDivergence, uniform } from "./mechanism.js";
import { softmax } from "./network.js";
import { searchPaths } from "./paths.js";
import { workOut } from "./rules.js";
import { searchTargets } from "./targets.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Ratings} Ratings */
/** @typedef {import("./types.js").Candidate} Candidate */
/** @typedef {import("./types.js").Plan} Plan */

const MAX_STEPS = 100; // the paper's maxiter
export const STOPS = 8; // on each way of the mechanism of answers

/**
 * Return what the defense model believes about a record: one probability a class.
 *
 * @param {Bundle} bundle
 * @param {Ratings} record
 * @returns {Float64Array}
 */
export function posterior(bundle, record) {
  return softmax(bundle.network.logits(record));
}

/**
 * Search what might be released of a record. This is the costly part; what it returns is fast, but
 * for a budget of another margin with the mechanism of targets, which searches again.
 *
 * @param {Bundle} bundle
 * @param {Ratings} record
 * @param {import("./types.js").Rules} [rules]
 * @returns {import("./types.js").Search} throws an `OptionError` unless the budget is above 0
 */
export function search(bundle, record, rules = {}) {
  const limits = workOut(bundle, record, rules);
  const plan =
    bundle.settings.mechanism === "answers"
      ? byAnswers(bundle, record, limits)
      : byTargets(bundle, record, limits);
  return (budget) => {
    if (!(budget > 0 && Number.isFinite(budget))) {
      throw new OptionError(`budget must be a number above 0; got ${budget}`);
    }
    return plan(budget);
  };
}

/**
 * Tell whether a plan could change its record at all: one that could not protects nobody.
 *
 * @param {Plan} plan
 */
export function mayChange({ candidates, psi }) {
  return candidates.some(({ cost }, number) => cost > 0 && psi[number] > 0);
}

/**
 * Choose what is released of a record: the same for the same plan, key and record, for ever.
 *
 * @param {Plan} plan
 * @param {Uint8Array} key 32 secret bytes
 * @param {Ratings} record the unchanged one
 * @returns {Promise<import("./types.js").Release>}
 */
export async function release({ candidates, psi, expectedCost }, key, record) {
  const chosen = candidates[choose(psi, await uniform(key, record))];
  return { ...chosen, record: changed(record, chosen.changes), expectedCost };
}

/**
 * @param {Bundle} bundle
 * @param {Ratings} record
 * @param {import("./rules.js").Limits} limits
 * @returns {import("./types.js").Search}
 */
function byAnswers({ network, settings, prior }, record, limits) {
  const stops = searchPaths(network, record, { steps: settings.maxSteps ?? STOPS, limits });
  const answers = answersOf(
    stops.map(({ logits }) => logits),
    settings,
  );
  const costs = Float64Array.from(stops, ({ changes }) => changes.length);
  return (budget) => {
    const { kept, psi } = leastDivergenceOfAnswers(prior, answers, { costs, budget });
    const candidates = kept.map((c) => candidate(stops[c], record));
    return planned(candidates, psi);
  };
}

/**
 * @param {Bundle} bundle
 * @param {Ratings} record
 * @param {import("./rules.js").Limits} limits
 * @returns {import("./types.js").Search}
 */
function byTargets({ network, settings, prior }, record, limits) {
  const maxSteps = settings.maxSteps ?? MAX_STEPS;
  /** @type {Map<number, Candidate[]>} */
  const found = new Map();
  return (budget) => {
    const margin = interpolate(settings.margins, budget);
    let candidates = found.get(margin);
    if (candidates === undefined) {
      const stops = searchTargets(network, record, { maxSteps, margin, limits });
      candidates = stops.map((stop) => candidate(stop, record));
      found.set(margin, candidates);
    }
    const costs = Float64Array.from(candidates, ({ cost }) => cost);
    return planned(candidates, leastDivergence(prior, costs, budget));
  };
}

/**
 * @param {import("./paths.js").Stop} stop
 * @param {Ratings} record
 * @returns {Candidate}
 */
function candidate({ changes, logits, target, reached }, record) {
  const before = new Map(record.feature.map((feature, i) => [feature, record.value[i]]));
  return {
    changes: changes
      .map(({ feature, after }) => ({ feature, before: before.get(feature) ?? 0, after }))
      .sort((one, other) => one.feature - other.feature),
    cost: changes.length,
    target,
    reached,
    posterior: softmax(logits),
  };
}

/**
 * @param {Candidate[]} candidates
 * @param {Float64Array} psi
 * @returns {Plan}
 */
function planned(candidates, psi) {
  const costs = Float64Array.from(candidates, ({ cost }) => cost);
  const expected = candidates[0].posterior.map((_, k) =>
    candidates.reduce((sum, { posterior }, c) => sum + psi[c] * posterior[k], 0),
  );
  return { candidates, psi, expectedCost: dot(psi, costs), expected };
}

/**
 * @param {Ratings} record
 * @param {import("./types.js").Change[]} changes
 * @returns {Ratings}
 */
function changed(record, changes) {
  const entries = new Map(record.feature.map((feature, i) => [feature, record.value[i]]));
  for (const { feature, after } of changes) entries.set(feature, after);
  const present = [...entries].filter(([, value]) => value !== 0);
  present.sort(([one], [other]) => one - other);
  return { feature: present.map(([feature]) => feature), value: present.map(([, value]) => value) };
}

/**
 * Return the margin at a budget: linear between the points, constant outside, 0 without any.
 *
 * @param {[number, number][]} points ascending by budget
 * @param {number} budget
 */
function interpolate(points, budget) {
  if (points.length === 0) return 0;
  const next = points.findIndex(([at]) => at > budget);
  if (next === 0) return points[0][1];
  if (next < 0) return points[points.length - 1][1];
  const [[left, low], [right, high]] = [points[next - 1], points[next]];
  return low + ((high - low) / (right - left)) * (budget - left);
}
