// Finding and making elements. Text only ever goes in as text.

/**
 * Return the element of a given id.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} called ${id}`);
  return found;
}

/**
 * Make an element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {{[name: string]: string | boolean}} attributes `true` sets one without a value
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Let the browser paint what was said so far, and take events, before long work. */
export function painted() {
  return new Promise((resolve) => {
    if (document.hidden) {
      // No frame ever comes, and timers crawl.
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve(undefined);
      };
      port2.postMessage(null);
      return;
    }
    const tooLong = setTimeout(resolve, 100); // the tab may be hidden meanwhile
    requestAnimationFrame(() => {
      clearTimeout(tooLong);
      setTimeout(resolve, 0);
    });
  });
}

/**
 * Say what happened, to screen readers and to everybody else.
 *
 * @param {string} message
 * @param {"plain" | "wrong" | "quiet"} [tone] quiet: only for those who cannot see it elsewhere
 */
export function say(message, tone = "plain") {
  clearTimeout(waiting);
  const status = byId("status", HTMLElement);
  status.classList.toggle("wrong", tone === "wrong");
  status.classList.toggle("quiet", tone === "quiet");
  if (tone !== "quiet") {
    status.textContent = message;
    return;
  }
  // A slider on its way would have each of its stops read out.
  status.textContent = "";
  waiting = setTimeout(() => (status.textContent = message), 400);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting;

/** @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {unknown} error */
export function sayProblem(error) {
  say(messageOf(error), "wrong");
}
