// Phase II of the mechanism of answers: mix what an attacker is believed to answer.
// `docs/bundle-format.md`, "The answers" and "The probabilities".

import { softmax } from "./network.js";
import { dot, leastDivergence, shares, sumOf } from "./mechanism.js";

const ROUNDS = 60;
const NEWTON = 4; // steps a round: the multiplier moves little from one round to the next
const LEAST = 1e-100; // stands for 0 in divisors; its square is a number still

/**
 * Return what an attacker is believed to answer about every candidate: the softened defense
 * model's answer, and partly that to the unchanged record, since no change deceives everybody.
 *
 * @param {Float32Array[]} logits one a candidate, the unchanged record's first
 * @param {{temperature: number, leak: number}} settings
 */
export function answersOf(logits, { temperature, leak }) {
  const said = logits.map((each) => softmax(each, temperature));
  return said.map((answer) => answer.map((share, k) => (1 - leak) * share + leak * said[0][k]));
}

/**
 * Choose few candidates, and probabilities, whose mixed answers are closest to `prior`.
 *
 * Minimizes KL(prior || sum of psi_c answers_c) subject to a mean cost within the budget, by
 * expectation maximization. After a third of the rounds twice as many candidates are kept as there
 * are classes, after two thirds as many, and candidate 0 besides.
 *
 * @param {Float64Array} prior
 * @param {Float64Array[]} answers one distribution a candidate
 * @param {{costs: Float64Array, budget: number}} limit candidate 0 costs nothing; a budget above 0
 * @returns {{kept: number[], psi: Float64Array}} candidates ascending, and one probability each
 */
export function leastDivergenceOfAnswers(prior, answers, { costs, budget }) {
  let kept = [...answers.keys()];
  /** @type {Float64Array} */
  let weights = shares(new Float64Array(answers.length).fill(1));
  for (const most of [2 * prior.length, prior.length, null]) {
    const mixed = kept.map((c) => answers[c]);
    const relative = Float64Array.from(kept, (c) => costs[c] / budget);
    weights = weigh(weights, { prior, answers: mixed, relative });
    if (most === null) break;
    const best = worthKeeping(weights, mixed, most);
    kept = best.map((c) => kept[c]);
    weights = shares(Float64Array.from(best, (c) => weights[c]));
  }
  const own = Float64Array.from(kept, (c) => costs[c]);
  return { kept, psi: leastDivergence(weights, own, budget) };
}

/**
 * Improve weights for a third of the rounds; probabilities are the weights, fitted to the budget.
 *
 * @param {Float64Array} weights
 * @param {{prior: Float64Array, answers: Float64Array[], relative: Float64Array}} problem costs are
 *   relative to the budget
 */
function weigh(weights, { prior, answers, relative }) {
  let scale = LEAST;
  for (let round = 0; round < ROUNDS / 3; round++) {
    scale = fit(weights, relative, scale);
    const divisor = divisors(relative, scale);
    const psi = shares(weights.map((weight, c) => weight / divisor[c]));
    const mixed = new Float64Array(prior.length);
    answers.forEach((answer, c) => {
      for (let k = 0; k < mixed.length; k++) mixed[k] += psi[c] * answer[k];
    });
    const ratio = mixed.map((share, k) => (share > LEAST ? prior[k] / share : 0));
    const better = psi.map((share, c) => share * dot(answers[c], ratio));
    // No candidate has any of the answers that the prior wants: none is better.
    weights = shares(sumOf(better) > 0 ? better : psi);
  }
  return weights;
}

/**
 * @param {Float64Array} relative
 * @param {number} scale
 */
function divisors(relative, scale) {
  return relative.map((cost) => scale + (1 - scale) * cost);
}

/**
 * Return the scale in (0, 1] at which weights over divisors keep to the budget, nearly.
 *
 * What is spent beyond the budget, times the scale, is a convex function of the scale and negative
 * at 0: Newton's method overshoots the root once and then comes down to it.
 *
 * @param {Float64Array} weights
 * @param {Float64Array} relative
 * @param {number} start
 */
function fit(weights, relative, start) {
  const beyond = weights.map((weight, c) => weight * (relative[c] - 1));
  if (sumOf(beyond) <= 0) return 1;
  let scale = start;
  for (let step = 0; step < NEWTON; step++) {
    const divisor = divisors(relative, scale);
    const share = beyond.map((weight, c) => weight / divisor[c]);
    const slope = share.reduce((sum, each, c) => sum + (each * relative[c]) / divisor[c], 0);
    const next = scale - (scale * sumOf(share)) / slope;
    scale = slope > LEAST ? Math.min(Math.max(next, LEAST), 1) : 1;
  }
  return scale;
}

/**
 * Return candidate 0 and at most so many others, ascending: first the one that gives most of each
 * class's answers, lest a class that many share lose them all, then the likeliest.
 *
 * @param {Float64Array} weights
 * @param {Float64Array[]} answers
 * @param {number} most
 */
function worthKeeping(weights, answers, most) {
  const rank = weights.slice();
  for (let k = 0; k < answers[0].length; k++) {
    let best = 0;
    for (let c = 1; c < answers.length; c++) {
      if (weights[c] * answers[c][k] > weights[best] * answers[best][k]) best = c;
    }
    rank[best] = 1 + weights[best];
  }
  rank[0] = Infinity;
  const order = [...rank.keys()].sort((one, other) => rank[other] - rank[one] || one - other);
  return order.slice(0, most + 1).sort((one, other) => one - other);
}
