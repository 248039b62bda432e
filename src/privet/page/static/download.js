import { make } from "./dom.js";

/**
 * Hand a file to the browser to save.
 *
 * @param {string} name
 * @param {BlobPart} content
 * @param {string} [type]
 */
export function save(name, content, type = "application/octet-stream") {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = make("a", { href: address, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  // Some browsers start to read only after the click has long returned.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/**
 * Return `name` with a word before its ending: `mine.csv`, `mine-protected.csv`.
 *
 * @param {string} name
 * @param {string} word
 * @param {string} [ending] to replace the old one
 */
export function renamed(name, word, ending) {
  const dot = name.lastIndexOf(".");
  const stem = dot > 0 ? name.slice(0, dot) : name;
  return `${stem}-${word}${ending ?? (dot > 0 ? name.slice(dot) : "")}`;
}
