// What the key decided for one record, and what it decided among.

import { byId, make } from "./dom.js";
import { largest } from "./network.js";
import { mayChange } from "./protect.js";
import { changeInWords, className, counted, featureName, percent, score } from "./words.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Change} Change */
/** @typedef {import("./types.js").Plan} Plan */

const SHOWN = 12; // entries in the table of chances

/** What others cannot be sure of, by what may change. */
const UNSURE = {
  modify_add: "which of its entries are yours",
  modify_exist: "which entries are gone, or have another score",
  add_new: "which of its entries are yours",
};

/**
 * Return the changes that a plan may make, each with its probability; largest first.
 *
 * @param {Plan} plan
 * @returns {{change: Change, chance: number}[]}
 */
export function chances({ candidates, psi }) {
  /** @type {Map<string, {change: Change, chance: number}>} */
  const found = new Map();
  candidates.forEach(({ changes }, number) => {
    for (const change of psi[number] > 0 ? changes : []) {
      const name = `${change.feature} ${change.after}`;
      const entry = found.get(name) ?? { change, chance: 0 };
      entry.chance += psi[number];
      found.set(name, entry);
    }
  });
  return [...found.values()].sort(
    (a, b) => b.chance - a.chance || a.change.feature - b.change.feature,
  );
}

/**
 * Show the release that the person's key leads to.
 *
 * @param {Bundle} bundle
 * @param {Plan} plan
 * @param {import("./types.js").Release} release
 */
export function drawRelease(bundle, plan, release) {
  const { changes } = release;
  const free = mayChange(plan);
  const many = counted(
    changes.length,
    "entry of this record changes",
    "entries of this record change",
  );
  const same = free
    ? "Under your key, this record stays as it is. It could have changed, and whoever sees it " +
      "cannot be sure that it did not."
    : "The rules leave nothing to change: this record is not protected.";
  byId("decided", HTMLElement).textContent = changes.length ? `Under your key, ${many}:` : same;
  byId("decided", HTMLElement).classList.toggle("problem", !free);
  const others = byId("other-chances", HTMLElement);
  // What is hidden would lose the keyboard's focus.
  if (!free && others.contains(document.activeElement)) byId("changes-title", HTMLElement).focus();
  others.hidden = !free;
  byId("release", HTMLElement).replaceChildren(
    ...changes.map((change) =>
      make("li", { class: kindOf(change) }, capital(changeInWords(bundle, change))),
    ),
  );
  const guess = largest(release.posterior);
  const sure = percent(release.posterior[guess]);
  byId("after-release", HTMLElement).textContent = free
    ? `Of the protected record the model says ${className(bundle, guess)}, and is ${sure} sure.`
    : "";
}

/**
 * Show which entries could change, and how likely each is to.
 *
 * @param {Bundle} bundle
 * @param {Plan} plan
 * @param {object} how
 * @param {import("./types.js").Policy} how.policy
 * @param {(feature: number) => void} how.keep called with an entry that the person ticks
 */
export function drawChances(bundle, plan, { policy, keep }) {
  const found = chances(plan);
  const rows = found.slice(0, SHOWN).map(({ change, chance }) => {
    const name = featureName(bundle, change.feature);
    const tick = make(
      "button",
      { type: "button", class: "link", "aria-label": `Leave ${name} untouched` },
      "leave",
    );
    tick.addEventListener("click", () => keep(change.feature));
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, name),
      make("td", {}, `${score(change.before)} \u2192 ${score(change.after)}`),
      make("td", {}, percent(chance)),
      make("td", {}, tick),
    );
  });
  byId("chances", HTMLTableElement).tBodies[0].replaceChildren(...rows);
  byId("unsure", HTMLElement).textContent = UNSURE[policy];
  const left = found.length - rows.length;
  byId("more-chances", HTMLElement).textContent =
    `${left > 0 ? `And ${counted(left, "less likely change")}. ` : ""}` +
    `On average ${plan.expectedCost.toFixed(1)} entries change.`;
}

/** @param {Change} change */
function kindOf(change) {
  if (change.before === 0) return "added";
  return change.after === 0 ? "removed" : "moved";
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
