/**
 * Return the bytes of the bundle that stands in the page, and drop its text.
 *
 * @returns {ArrayBuffer}
 */
export function embeddedBundle() {
  const block = document.getElementById("bundle");
  const text = block?.textContent ?? "";
  block?.remove();
  if (!text) throw new Error("this page was made without a bundle");
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at);
  return bytes.buffer;
}
