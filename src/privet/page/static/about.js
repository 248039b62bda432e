// What a bundle's maker states about it. A card may hold anything, so only what fits is shown.

import { byId, make } from "./dom.js";
import { counted, percent, shown } from "./words.js";

/** SP-ASPP's figures, by the letters that a card has for them. */
const FIGURES = new Map([
  ["m", "its accuracy beside the unpruned model's"],
  ["r", "its size"],
  ["q", "how often attackers guess right"],
  ["n", "how often attackers guess right beside the unpruned model"],
]);

/** @param {import("./types.js").Bundle} bundle */
export function drawAbout(bundle) {
  const { card } = bundle;
  const cases = bundle.selfTest.length;
  const by = Object.entries(Object(card.attack_accuracy_by_budget) ?? {})
    .filter(([, rate]) => isRate(rate))
    .sort(([one], [other]) => Number(one) - Number(other))
    .slice(0, 8)
    .map(([budget, rate]) => `${percent(rate)} at budget ${shown(budget)}`);
  /** @type {[string, string | false][]} */
  const facts = [
    ["Made from", typeof card.dataset === "string" && shown(card.dataset)],
    [
      "Entries and answers",
      `${counted(bundle.settings.low.length, "entry", "entries")}, ${counted(bundle.prior.length, "answer")}`,
    ],
    [
      "The model guesses right",
      isRate(card.accuracy) && `${percent(card.accuracy)} of people it never saw`,
    ],
    ["Attackers guess right, after protection", by.length > 0 && by.join(", ")],
    ["Checked by its maker", checked(card.definitions)],
    ["Digest", bundle.digest],
    ["Self-test", cases > 0 && `${counted(cases, "case")}; this browser gives the maker's answers`],
  ];
  byId("about", HTMLElement).replaceChildren(
    ...facts.flatMap(([name, value]) =>
      value ? [make("div", {}, make("dt", {}, name), make("dd", {}, value))] : [],
    ),
  );
  byId("measured", HTMLElement).textContent = by.length
    ? "How well that works was measured; \u201cAbout this bundle\u201d below has the figures."
    : "How well that works, its maker does not state.";
}

/**
 * Say whether the bundle met the bounds that its maker had set.
 *
 * @param {unknown} definitions
 */
function checked(definitions) {
  const { passed, failed } = Object(definitions ?? {});
  const missed = Array.isArray(failed) ? failed.filter((letter) => FIGURES.has(letter)) : [];
  if (missed.length > 0) {
    const named = missed.map((letter) => `${FIGURES.get(letter)} (${letter})`);
    return `Bounds missed: ${named.join(", ")}`;
  }
  if (passed === false) return "Bounds missed";
  return passed === true && "All bounds met";
}

/**
 * @param {unknown} value
 * @returns {value is number}
 */
function isRate(value) {
  return typeof value === "number" && value >= 0 && value <= 1;
}
