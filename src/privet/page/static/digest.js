// SHA-256, and bytes as text.

/**
 * @param {BufferSource} content
 * @returns {Promise<Uint8Array<ArrayBuffer>>} 32 bytes
 */
export async function sha256(content) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", content));
}

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
