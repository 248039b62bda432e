// A person's file at work: what is searched and drawn again when the person changes something.

import { drawChances, drawRelease } from "./changes_view.js";
import { allAnswers, budgetSlider, pager, policyChoice } from "./controls.js";
import { byId, painted, say, sayProblem } from "./dom.js";
import { drawGuess } from "./guess_view.js";
import { keepView } from "./keep_view.js";
import { keyView } from "./key_view.js";
import { largest } from "./network.js";
import { posterior, release, search } from "./protect.js";
import { saving } from "./save_view.js";
import { className, percent, shown } from "./words.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Ratings} Ratings */
/** @typedef {import("./types.js").Table} Table */

/** One person's file, one of its records in view, and what the person allows. */
export class Workspace {
  /** @param {Bundle} bundle */
  constructor(bundle) {
    const searchAgain = () => void this.search().catch(sayProblem);
    const newRules = () => {
      this.saver.forget();
      searchAgain();
    };
    const newDraw = () => {
      this.saver.forget();
      void this.draw().catch(sayProblem);
    };
    this.bundle = bundle;
    /** @type {Set<number>} */
    this.keep = new Set();
    this.keeping = keepView(bundle, this.keep, newRules);
    this.policy = policyChoice(bundle.settings.policy, newRules);
    this.budget = budgetSlider(newDraw);
    this.key = keyView(newDraw);
    this.all = allAnswers(() => this.drawGuess());
    this.startOver = pager((index) => {
      this.at = index;
      this.keeping.draw(this.record);
      searchAgain();
    });
    this.saver = saving(bundle, {
      choices: () => ({ budget: this.budget(), key: this.key.key(), rules: this.rules }),
      keyIsSafe: this.key.safe,
    });
    /** @type {Ratings[]} */
    this.records = [];
    this.at = 0;
    this.turns = 0; // counts drawings: an older one that still waits for something gives up
    /** @type {import("./types.js").Search | null} */
    this.found = null;
    /** @type {import("./types.js").Plan | null} */
    this.plan = null;
    /** @type {Float64Array} what the model makes of the record in view */
    this.now = new Float64Array();
    /** @type {(plan: import("./types.js").Plan) => void} */
    this.drawAfter = () => {};
  }

  get record() {
    return this.records[this.at];
  }

  /** @returns {import("./types.js").Rules} */
  get rules() {
    return { policy: this.policy(), keep: new Set(this.keep) };
  }

  /**
   * Begin with another file.
   *
   * @param {string} name
   * @param {Table} table
   */
  open(name, table) {
    this.records = table.records;
    this.saver.open(name, table);
    byId("guess-file", HTMLElement).textContent = shown(name);
    byId("work", HTMLElement).hidden = false;
    byId("drop", HTMLElement).classList.add("open");
    this.startOver(table.records.length);
    byId("guess-title", HTMLElement).focus();
  }

  /** Search the record in view, which takes a moment, and draw it. */
  async search() {
    if (!this.records.length) return;
    const turn = ++this.turns;
    this.found = this.plan = null;
    say("Searching\u2026");
    await painted();
    if (turn !== this.turns) return;
    this.now = posterior(this.bundle, this.record);
    this.drawGuess();
    this.found = search(this.bundle, this.record, this.rules);
    await this.draw();
  }

  /** Draw what is guessed, with as many answers as are asked for. */
  drawGuess() {
    if (this.now.length === 0) return;
    this.drawAfter = drawGuess(this.bundle, this.now, this.all());
    if (this.plan) this.drawAfter(this.plan);
  }

  /** Draw the record in view at the budget of the slider. */
  async draw() {
    if (this.found === null) return;
    const turn = ++this.turns;
    const [record, budget] = [this.record, this.budget()];
    const plan = (this.plan = this.found(budget));
    this.drawAfter(plan);
    drawChances(this.bundle, plan, {
      policy: this.policy(),
      keep: (feature) => {
        this.keeping.add(feature);
        byId("chances-title", HTMLElement).focus();
      },
    });
    const drawn = await release(plan, this.key.key(), record);
    if (turn !== this.turns) return;
    drawRelease(this.bundle, plan, drawn);
    const guess = largest(this.now);
    const [now, after] = [percent(this.now[guess]), percent(plan.expected[guess])];
    const name = className(this.bundle, guess);
    say(
      `At budget ${budget} the model gives ${name} ${now} now, ${after} after protection on average.`,
      "quiet",
    );
  }
}
