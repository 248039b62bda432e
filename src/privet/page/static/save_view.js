// Protecting the whole file, and saving what comes out.

import { byId, say, sayProblem } from "./dom.js";
import { renamed, save } from "./download.js";
import { protectAll } from "./protect_file.js";
import { reportAsJson, reportAsText } from "./report.js";
import { counted } from "./words.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Table} Table */
/** @typedef {import("./protect_file.js").Entry} Entry */
/** @typedef {{budget: number, key: Uint8Array, rules: import("./types.js").Rules}} Choices */

/**
 * @param {Bundle} bundle
 * @param {object} from
 * @param {() => Choices} from.choices
 * @param {() => boolean} from.keyIsSafe
 */
export function saving(bundle, { choices, keyIsSafe }) {
  const cancel = byId("cancel", HTMLButtonElement);
  const bar = byId("progress", HTMLProgressElement);
  const line = byId("progress-line", HTMLElement);
  const buttons = ["download", "report-text", "report-json"].map((id) =>
    byId(id, HTMLButtonElement),
  );
  let name = "";
  /** @type {Table | null} */
  let table = null;
  /** @type {Entry[] | null} */
  let done = null; // for the choices as they are now
  let running = new AbortController();
  let published = false; // whether a protected file was saved

  /** Give up what was computed for other choices. */
  function forget() {
    done = null;
    running.abort();
  }

  /** @param {boolean} busy */
  function working(busy) {
    line.hidden = cancel.hidden = !busy;
    for (const button of buttons) button.disabled = busy;
  }

  /** @param {Table} opened */
  async function protectedEntries(opened) {
    if (done) return done;
    running = new AbortController();
    const { signal } = running;
    bar.max = opened.records.length;
    working(true);
    try {
      const entries = await protectAll(bundle, opened.records, {
        ...choices(),
        signal,
        progress: (count) => (bar.value = count),
      });
      signal.throwIfAborted();
      return (done = entries);
    } finally {
      working(false);
    }
  }

  /**
   * Protect the file if need be, and save something made of it.
   *
   * @param {(entries: Entry[], opened: Table) => void} saveIt
   */
  async function run(saveIt) {
    if (table === null) return;
    try {
      saveIt(await protectedEntries(table), table);
    } catch (error) {
      const stopped = error instanceof DOMException && error.name === "AbortError";
      if (stopped) say("Stopped; nothing was saved.");
      else sayProblem(error);
    }
  }

  cancel.addEventListener("click", () => running.abort());
  buttons[0].addEventListener("click", () =>
    run((entries, opened) => {
      save(renamed(name, "protected"), opened.write(entries.map(({ release }) => release.record)));
      published = true;
      const changed = entries.filter(({ release }) => release.cost > 0).length.toLocaleString("en");
      const reminder = keyIsSafe()
        ? ""
        : " Save your key, too: without it the same record gets another answer next time.";
      say(`Saved ${counted(entries.length, "record")}, ${changed} of them changed.${reminder}`);
    }),
  );
  buttons[1].addEventListener("click", () =>
    run((entries) =>
      save(renamed(name, "changes", ".txt"), reportAsText(bundle, entries), "text/plain"),
    ),
  );
  buttons[2].addEventListener("click", () =>
    run((entries) =>
      save(renamed(name, "changes", ".json"), reportAsJson(bundle, entries), "application/json"),
    ),
  );
  window.addEventListener("beforeunload", (event) => {
    // Whoever leaves now can never give the same answer again.
    if (published && !keyIsSafe()) event.preventDefault();
  });

  return {
    forget,
    /**
     * @param {string} fileName
     * @param {Table} opened
     */
    open(fileName, opened) {
      forget();
      name = fileName;
      table = opened;
    },
  };
}
