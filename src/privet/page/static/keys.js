// The person's secret key: 32 bytes, the same file that `privet protect apply` uses.

import { hex } from "./digest.js";
import { OptionError } from "./errors.js";
import { KEY_BYTES } from "./mechanism.js";

const PLACE = "privet key";

/** @returns {Uint8Array<ArrayBuffer>} */
export function newKey() {
  return crypto.getRandomValues(new Uint8Array(KEY_BYTES));
}

/**
 * @param {File} file
 * @returns {Promise<Uint8Array<ArrayBuffer>>} rejects with an `OptionError`
 */
export async function keyOf(file) {
  if (file.size !== KEY_BYTES) {
    throw new OptionError(
      `${file.name} is not ${KEY_BYTES} bytes long, so it is no key; choose another file`,
    );
  }
  return new Uint8Array(await file.arrayBuffer());
}

/** @returns {Uint8Array<ArrayBuffer> | null} the key that this browser remembers */
export function rememberedKey() {
  let text;
  try {
    text = localStorage.getItem(PLACE);
  } catch {
    return null; // storage is switched off
  }
  if (!text || !/^[0-9a-f]{64}$/.test(text)) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/**
 * Remember a key in this browser, or forget the one it remembers.
 *
 * @param {Uint8Array | null} key
 * @returns {boolean} whether the browser let us
 */
export function remember(key) {
  try {
    if (key === null) localStorage.removeItem(PLACE);
    else localStorage.setItem(PLACE, hex(key));
    return true;
  } catch {
    return false;
  }
}
