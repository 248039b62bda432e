// Files that a person chooses or drops.

import { byId, painted, say, sayProblem } from "./dom.js";
import { DataError } from "./errors.js";
import { readFile } from "./formats.js";
import { counted, score, shown } from "./words.js";

/** @typedef {import("./types.js").Bundle} Bundle */
/** @typedef {import("./types.js").Table} Table */

const LARGEST = 64 * 2 ** 20; // bytes: a few hundred thousand records

/**
 * Let the person choose files, now that there is a bundle to protect them with.
 *
 * @param {Bundle} bundle
 * @param {(name: string, table: Table) => void} opened
 */
export function receiveFiles(bundle, opened) {
  const input = byId("file", HTMLInputElement);
  const { classList } = byId("drop", HTMLElement);

  /** @param {File} file */
  async function receive(file) {
    say(`Reading ${shown(file.name)}\u2026`);
    await painted();
    try {
      opened(file.name, await read(file, bundle));
    } catch (error) {
      sayProblem(error);
    }
  }

  input.disabled = false;
  // The same file again, edited meanwhile, is no change otherwise.
  input.addEventListener("click", () => (input.value = ""));
  input.addEventListener("change", () => {
    if (input.files?.length) void receive(input.files[0]);
  });
  // Anywhere: a file that misses the box would otherwise replace the page.
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    classList.add("over");
  });
  window.addEventListener("dragleave", () => classList.remove("over"));
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    classList.remove("over");
    if (event.dataTransfer?.files.length) void receive(event.dataTransfer.files[0]);
  });

  const made = madeUp(bundle);
  byId("trial", HTMLElement).hidden = made === null;
  byId("example", HTMLButtonElement).addEventListener("click", () => {
    if (made !== null) void receive(new File([made], "made-up.txt"));
  });
}

/**
 * @param {File} file
 * @param {Bundle} bundle
 * @returns {Promise<Table>}
 */
async function read(file, bundle) {
  const ending = /\.(npz|parquet)$/i.exec(file.name);
  if (ending) {
    throw new DataError(
      `this page reads text, CSV and TSV; for ${file.name} use: privet protect apply`,
    );
  }
  if (file.size > LARGEST) {
    throw new DataError(
      `${file.name} has ${counted(file.size, "byte")}, too many for a page; use: privet protect apply`,
    );
  }
  return readFile(file.name, await file.arrayBuffer(), bundle);
}

/**
 * Return the records of the bundle's self-test, which belong to nobody, as a text file.
 *
 * @param {Bundle} bundle
 */
function madeUp({ selfTest }) {
  const lines = selfTest.map(({ record }) =>
    record.feature.map((feature, at) => `${feature}:${score(record.value[at])}`).join(" "),
  );
  return lines.length ? `${lines.join("\n")}\n` : null;
}
