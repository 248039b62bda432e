// Protecting the whole file, and saving what comes out.

import { sha256, hex } from "./digest.js";
import { byId, messageOf } from "./dom.js";
import { renamed, save } from "./download.js";
import { protectAll } from "./protect_file.js";
import { reportAsJson, reportAsText } from "./report.js";
import { counted, shown } from "./words.js";

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
  const buttons = ["download", "report-text", "report-json"].map((id) =>
    byId(id, HTMLButtonElement),
  );
  const { working, progress, cancel } = progressView(buttons);
  const isSecond = versions();
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

  /** @param {Table} opened */
  async function protectedEntries(opened) {
    if (done) return done;
    running = new AbortController();
    const { signal } = running;
    working(opened.records.length);
    try {
      const how = { ...choices(), signal, progress };
      const entries = await protectAll(bundle, opened.records, how);
      signal.throwIfAborted();
      return (done = entries);
    } finally {
      working(0);
    }
  }

  /**
   * Protect the file if need be, and save something made of it.
   *
   * @param {(entries: Entry[], opened: Table) => void | Promise<void>} saveIt
   */
  async function run(saveIt) {
    const opened = table;
    if (opened === null) return;
    tell("");
    try {
      await saveIt(await protectedEntries(opened), opened);
    } catch (error) {
      const stopped = error instanceof DOMException && error.name === "AbortError";
      if (opened === table) tell(stopped ? "Stopped; nothing was saved." : messageOf(error));
    }
  }

  /**
   * @param {Entry[]} entries
   * @param {Table} opened
   */
  async function publish(entries, opened) {
    const chosen = choices();
    save(renamed(name, "protected"), opened.write(entries.map(({ release }) => release.record)));
    published = true;
    tell(
      [
        summary(entries),
        (await isSecond(opened, chosen)) &&
          "This is a second version of these records: publish only one, and delete the other.",
        !keyIsSafe() &&
          "Save your key, too: without it the same record gets another answer next time.",
      ]
        .filter(Boolean)
        .join(" "),
    );
  }

  cancel.addEventListener("click", () => running.abort());
  const savers = [
    publish,
    (/** @type {Entry[]} */ entries) =>
      save(renamed(name, "changes", ".txt"), reportAsText(bundle, entries), "text/plain"),
    (/** @type {Entry[]} */ entries) =>
      save(renamed(name, "changes", ".json"), reportAsJson(bundle, entries), "application/json"),
  ];
  buttons.forEach((button, number) =>
    button.addEventListener("click", () => {
      if (cancel.hidden) void run(savers[number]);
    }),
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
      tell("");
      name = fileName;
      table = opened;
      byId("save-file", HTMLElement).textContent = shown(fileName);
    },
  };
}

/**
 * Say what became of the file, where it stays until something else becomes of it.
 *
 * @param {string} message
 */
function tell(message) {
  byId("saved", HTMLElement).textContent = message;
}

/**
 * Show how far long work has come, and a button to stop it.
 *
 * @param {HTMLButtonElement[]} buttons which mean nothing meanwhile; disabled ones would lose the
 *   keyboard's focus
 */
function progressView(buttons) {
  const cancel = byId("cancel", HTMLButtonElement);
  const bar = byId("progress", HTMLProgressElement);
  return {
    cancel,
    /** @param {number} count how many records there are to do; 0 once they are done */
    working(count) {
      const busy = count > 0;
      if (!busy && document.activeElement === cancel) buttons[0].focus();
      byId("progress-line", HTMLElement).hidden = cancel.hidden = !busy;
      for (const button of buttons) button.setAttribute("aria-disabled", String(busy));
      if (busy) bar.max = count;
    },
    /** @param {number} count */
    progress(count) {
      bar.value = count;
    },
  };
}

/** @param {Entry[]} entries */
function summary(entries) {
  const changed = entries.filter(({ release }) => release.cost > 0).length;
  const stuck = entries.filter(({ free }) => !free).length;
  return (
    `Saved ${counted(entries.length, "record")}, ${changed.toLocaleString("en")} of them changed.` +
    (stuck ? ` In ${counted(stuck, "record")} nothing could change: not protected.` : "")
  );
}

/**
 * Return a function that tells whether the same records were saved before by other choices, and
 * takes note of these.
 */
function versions() {
  /** @type {Map<string, string>} */
  const last = new Map();
  const encoder = new TextEncoder();
  return async (/** @type {Table} */ { records, write }, /** @type {Choices} */ how) => {
    const what = hex(await sha256(encoder.encode(write(records))));
    const keep = [...(how.rules.keep ?? [])].sort((one, other) => one - other);
    const choice = JSON.stringify([how.budget, hex(how.key), how.rules.policy, keep]);
    const before = last.get(what);
    last.set(what, choice);
    return before !== undefined && before !== choice;
  };
}
