// The page's simple controls: the slider, the policy, the pages of a file, all answers or few.

import { byId } from "./dom.js";

/** @typedef {import("./types.js").Policy} Policy */

/**
 * The budget slider.
 *
 * @param {() => void} moved
 * @returns {() => number} the budget it stands at
 */
export function budgetSlider(moved) {
  const slider = byId("budget", HTMLInputElement);
  const shown = byId("budget-value", HTMLOutputElement);

  function tell() {
    shown.textContent = slider.value;
    slider.setAttribute("aria-valuetext", `${slider.value} entries on average`);
  }

  slider.addEventListener("input", () => {
    tell();
    moved();
  });
  tell(); // a browser may bring back what it was before a reload
  return () => slider.valueAsNumber;
}

/**
 * What may change: the bundle's own policy until the person says otherwise.
 *
 * @param {Policy} first
 * @param {() => void} changed
 * @returns {() => Policy}
 */
export function policyChoice(first, changed) {
  let policy = first;
  for (const input of byId("policy", HTMLFieldSetElement).querySelectorAll("input")) {
    input.checked = input.value === first;
    input.addEventListener("change", () => {
      policy = /** @type {Policy} */ (input.value);
      changed();
    });
  }
  return () => policy;
}

/**
 * Paging through the records of a file.
 *
 * @param {(index: number) => void} turned called with the record to show, counted from 0
 * @returns {(count: number) => void} starts over with a file of so many records
 */
export function pager(turned) {
  const previous = byId("previous", HTMLButtonElement);
  const next = byId("next", HTMLButtonElement);
  const number = byId("record", HTMLInputElement);
  let [at, count] = [0, 1];

  /** @param {number} index */
  function turnTo(index) {
    at = Math.min(Math.max(0, Math.trunc(index)), count - 1);
    number.value = String(at + 1);
    // A disabled button would lose the keyboard's focus.
    previous.setAttribute("aria-disabled", String(at === 0));
    next.setAttribute("aria-disabled", String(at === count - 1));
    turned(at);
  }

  previous.addEventListener("click", () => turnTo(at - 1));
  next.addEventListener("click", () => turnTo(at + 1));
  number.addEventListener("change", () => turnTo((number.valueAsNumber || at + 1) - 1));
  return (records) => {
    count = records;
    number.max = String(count);
    byId("records", HTMLElement).textContent = count.toLocaleString("en");
    byId("pager", HTMLElement).hidden = count === 1;
    turnTo(0);
  };
}

/**
 * Whether every answer is drawn, or the likeliest few.
 *
 * @param {() => void} changed
 * @returns {() => boolean}
 */
export function allAnswers(changed) {
  const button = byId("all-classes", HTMLButtonElement);
  let all = false;
  button.addEventListener("click", () => {
    all = !all;
    button.setAttribute("aria-expanded", String(all));
    button.textContent = all ? "Show fewer answers" : "Show all answers";
    changed();
  });
  return () => all;
}
