// The person's secret key: 32 bytes, the same file that `privet protect apply` uses.

import { OptionError } from "./errors.js";

const BYTES = 32;
const PLACE = "privet key";

/** @returns {Uint8Array<ArrayBuffer>} */
export function newKey() {
  return crypto.getRandomValues(new Uint8Array(BYTES));
}

/**
 * @param {File} file
 * @returns {Promise<Uint8Array<ArrayBuffer>>} rejects with an `OptionError`
 */
export async function keyOf(file) {
  if (file.size !== BYTES) {
    throw new OptionError(
      `${file.name} is not ${BYTES} bytes long, so it is no key; choose another file`,
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
    else
      localStorage.setItem(
        PLACE,
        Array.from(key, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      );
    return true;
  } catch {
    return false;
  }
}
