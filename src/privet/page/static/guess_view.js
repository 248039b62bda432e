// The model's guess as bars: now, after protection on average, and the goal.
//
// The goal is the bundle's prior: what the model should say of every record, for want of anything
// better. Whether people are like that, a bundle does not say.

import { byId, make } from "./dom.js";
import { largest } from "./network.js";
import { className, percent } from "./words.js";

/** @typedef {import("./types.js").Bundle} Bundle */

const SHOWN = 7; // answers with a row of their own, unless all are asked for
const GUESSED = 4; // of these, the largest now; the others are the goal's largest

/**
 * Draw what is guessed of one record; returns a function that draws what protection makes of it.
 *
 * @param {Bundle} bundle
 * @param {Float64Array} now one probability a class
 * @param {boolean} all whether every class gets a row
 * @returns {(plan: import("./types.js").Plan) => void}
 */
export function drawGuess(bundle, now, all) {
  const groups = rowsOf(bundle, now, all);
  const scale = [...now, ...bundle.prior].reduce((one, other) => Math.max(one, other), 0.2);
  const updates = groups.map((classes) => row(bundle, { classes, now, scale }));
  byId("all-classes", HTMLElement).hidden = now.length <= SHOWN + 1;
  const body = byId("chart", HTMLTableElement).tBodies[0];
  body.replaceChildren();
  for (const each of updates) body.append(each.element);
  const guess = largest(now);
  const name = className(bundle, guess);
  byId("verdict", HTMLElement).replaceChildren(
    "From this record the model says ",
    make("strong", {}, name),
    `, and is ${percent(now[guess])} sure, of ${now.length} possible answers.${hits(bundle)}`,
  );
  return ({ candidates, psi, expected: after }) => {
    for (const each of updates) each.update(after);
    byId("figures", HTMLElement).replaceChildren(
      figure(`${name}, now`, now[guess], "now"),
      figure("after protection, on average", after[guess], "after"),
      figure("the goal, for everybody alike", bundle.prior[guess], "goal"),
    );
    const still = candidates.reduce(
      (sum, { posterior }, c) => sum + (psi[c] > 0 && largest(posterior) === guess ? psi[c] : 0),
      0,
    );
    byId("repeated", HTMLElement).textContent =
      `The chance that the model still says ${name} of the protected record: ${percent(still)}.`;
  };
}

/**
 * Say how often the model is right, if the bundle's card does: sure or not, it may well be.
 *
 * @param {Bundle} bundle
 */
function hits({ card: { accuracy } }) {
  const known = typeof accuracy === "number" && accuracy >= 0 && accuracy <= 1;
  return known ? ` It was right about ${percent(accuracy)} of people it had never seen.` : "";
}

/**
 * Return which classes each row stands for: one each, and all others together in the last.
 *
 * @param {Bundle} bundle
 * @param {Float64Array} now
 * @param {boolean} all
 * @returns {number[][]}
 */
function rowsOf(bundle, now, all) {
  const byGuess = [...now.keys()].sort((a, b) => now[b] - now[a] || a - b);
  if (all || now.length <= SHOWN + 1) return byGuess.map((k) => [k]);
  const byShare = [...now.keys()].sort((a, b) => bundle.prior[b] - bundle.prior[a] || a - b);
  const own = new Set(byGuess.slice(0, GUESSED));
  for (const k of byShare) if (own.size < SHOWN) own.add(k);
  const rest = byGuess.filter((k) => !own.has(k));
  return [...byGuess.filter((k) => own.has(k)).map((k) => [k]), rest];
}

/**
 * Make the row of some classes; `update` shows what protection makes of them.
 *
 * @param {Bundle} bundle
 * @param {{classes: number[], now: Float64Array, scale: number}} what
 */
function row(bundle, { classes, now, scale }) {
  const sum = (/** @type {Float64Array} */ p) => classes.reduce((total, k) => total + p[k], 0);
  const alone = classes.length === 1;
  const bar = make("div", { class: "bar after" });
  const cell = make("td");
  const bars = make("td", { class: "bars" });
  // Many answers together would dwarf each single one.
  if (alone) {
    const mark = sized(make("div", { class: "mark" }), sum(bundle.prior) / scale);
    const track = make(
      "div",
      { class: "track" },
      sized(make("div", { class: "bar now" }), sum(now) / scale),
      bar,
      mark,
    );
    bars.append(track);
  }
  const name = alone ? className(bundle, classes[0]) : `${classes.length} others`;
  return {
    element: make(
      "tr",
      alone ? {} : { class: "rest" },
      make("th", { scope: "row" }, name),
      bars,
      make("td", {}, percent(sum(now))),
      cell,
      make("td", {}, percent(sum(bundle.prior))),
    ),
    /** @param {Float64Array} after */
    update(after) {
      cell.textContent = percent(sum(after));
      sized(bar, sum(after) / scale);
    },
  };
}

/**
 * Set a bar's length. Styles set by script are within the policy; style attributes are not.
 *
 * @param {HTMLElement} element
 * @param {number} share of the full length
 */
function sized(element, share) {
  element.style.setProperty("--share", `${(100 * Math.min(1, share)).toFixed(2)}%`);
  return element;
}

/**
 * @param {string} label
 * @param {number} share
 * @param {string} kind
 */
function figure(label, share, kind) {
  return make("div", { class: kind }, make("dt", {}, label), make("dd", {}, percent(share)));
}
