// The person's key: made, loaded, saved, remembered.

import { byId, messageOf } from "./dom.js";
import { save } from "./download.js";
import { keyOf, newKey, remember, rememberedKey } from "./keys.js";
import { shown } from "./words.js";

/**
 * @param {() => void} changed called when another key is used
 */
export function keyView(changed) {
  const problem = byId("key-problem", HTMLElement);
  const box = byId("remember", HTMLInputElement);
  const known = rememberedKey();
  let key = known ?? newKey();
  // Either lets the person use it again another day.
  let saved = false;
  let remembered = known !== null;
  box.checked = remembered;
  tell(
    known
      ? "This browser remembered your key."
      : "A new key was made for you when this page opened. Nobody else has it.",
  );

  /** @param {string} text */
  function tell(text) {
    byId("key-state", HTMLElement).textContent = text;
    problem.textContent = "";
  }

  byId("save-key", HTMLButtonElement).addEventListener("click", () => {
    save("privet-key", key);
    saved = true;
    tell("Saved as privet-key. privet protect apply uses it, too, after: chmod 600 privet-key");
  });
  byId("load-key", HTMLInputElement).addEventListener("change", async (event) => {
    const input = /** @type {HTMLInputElement} */ (event.currentTarget);
    const file = input.files?.[0];
    if (!file) return;
    try {
      key = await keyOf(file);
    } catch (error) {
      problem.textContent = messageOf(error);
      return;
    } finally {
      input.value = "";
    }
    saved = true;
    remembered = box.checked && remember(key);
    tell(`Using the key in ${shown(file.name)}.`);
    changed();
  });
  box.addEventListener("change", () => {
    if (!remember(box.checked ? key : null)) {
      box.checked = false;
      problem.textContent =
        "This browser does not let the page remember anything; save the key as a file.";
      return;
    }
    remembered = box.checked;
    const again = saved ? "" : " Save it to use it again.";
    tell(
      remembered
        ? "This browser will remember your key, for this page's address."
        : `This browser has forgotten your key.${again}`,
    );
  });
  return { key: () => key, safe: () => saved || remembered };
}
