// Which entries a person leaves untouched: a box to tick for each entry, and a field for others.

import { byId, make } from "./dom.js";
import { counted, featureCalled, featureName, score } from "./words.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Ratings} Ratings */

const MOST = 500; // boxes shown

/**
 * @param {Bundle} bundle
 * @param {Set<number>} keep the entries left untouched, which this view changes
 * @param {() => void} changed called after it did
 */
export function keepView(bundle, keep, changed) {
  const never = new Set(bundle.settings.never);
  const field = byId("keep-name", HTMLInputElement);
  const problem = byId("keep-problem", HTMLElement);
  /** @type {Ratings} */
  let record = { feature: [], value: [] };

  /**
   * @param {number} feature
   * @param {number} value
   */
  function box(feature, value) {
    const fixed = never.has(feature);
    const input = make("input", { type: "checkbox", disabled: fixed });
    input.checked = fixed || keep.has(feature);
    input.addEventListener("change", () => {
      if (input.checked) keep.add(feature);
      else keep.delete(feature);
      count();
      changed();
    });
    const about = fixed ? "never changes" : value ? score(value) : "not there";
    const name = featureName(bundle, feature);
    const text = make("span", {}, `${name} `, make("span", { class: "value" }, about));
    return make("li", {}, make("label", {}, input, text));
  }

  function count() {
    byId("kept-count", HTMLElement).textContent = keep.size
      ? `(${keep.size.toLocaleString("en")} so far)`
      : "";
  }

  /** @param {Ratings} shown */
  function draw(shown) {
    record = shown;
    const values = new Map(record.feature.map((feature, at) => [feature, record.value[at]]));
    const others = [...keep].filter((feature) => !values.has(feature)).sort((a, b) => a - b);
    const listed = [...others, ...record.feature].slice(0, MOST);
    const boxes = listed.map((feature) => box(feature, values.get(feature) ?? 0));
    const left = others.length + record.feature.length - listed.length;
    if (left > 0)
      boxes.push(
        make("li", {}, `and ${counted(left, "more entry", "more entries")}; name them above`),
      );
    byId("entries", HTMLElement).replaceChildren(...boxes);
    count();
  }

  function addNamed() {
    const feature = featureCalled(bundle, field.value);
    problem.textContent = "";
    if (feature < 0) {
      const last = bundle.settings.low.length - 1;
      const what = bundle.featureNames ? "a name, or a number" : "a number";
      problem.textContent = `There is no entry of this name; give ${what} in 0..${last}.`;
      return;
    }
    field.value = "";
    add(feature);
  }

  /** @param {number} feature */
  function add(feature) {
    keep.add(feature);
    draw(record);
    changed();
  }

  byId("keep-add", HTMLButtonElement).addEventListener("click", addNamed);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") addNamed();
  });
  return { draw, add };
}
