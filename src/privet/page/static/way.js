// A record on its way to a target, one change a step, and which change promises most.

import { addRows } from "./network.js";

/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./rules.js").Limits} Limits */

/**
 * The first layer's weights of the features that may change, (hidden, free) row by row: nothing
 * else needs a gradient.
 *
 * @param {Network} network
 * @param {Limits} limits
 */
export function narrowed(network, { free }) {
  const [[features, hidden], weight] = [network.sizes, network.weights[0]];
  if (free.length === features) return weight;
  const narrow = new Float32Array(hidden * free.length);
  for (let unit = 0, to = 0; unit < hidden; unit++) {
    for (let i = 0; i < free.length; i++, to++) narrow[to] = weight[unit * features + free[i]];
  }
  return narrow;
}

/** A record as changed so far; places count the features that may change. */
export class Way {
  /**
   * @param {Limits} limits
   * @param {Float32Array} narrow from `narrowed`
   * @param {Float32Array} first the unchanged record's first pre-activations
   */
  constructor(limits, narrow, first) {
    this.limits = limits;
    this.narrow = narrow;
    this.first = first.slice();
    this.value = limits.value.slice();
    /** Places that may not change again. */
    this.closed = new Uint8Array(limits.free.length);
    /** @type {Float32Array} */
    this.delta = new Float32Array(first.length);
    this.gradient = new Float64Array(limits.free.length);
  }

  /**
   * Return the change of one entry that promises most, null where none promises anything.
   *
   * Of all legal values only the lowest and the highest can promise most. A raise wins a tie
   * against a fall, and the lowest feature one against others.
   *
   * @param {Float32Array} delta the gradient at the first pre-activations, from `backward`
   * @returns {{place: number, to: number} | null}
   */
  best(delta) {
    this.#follow(delta);
    const { value, closed, gradient } = this;
    const { low, high } = this.limits;
    let [up, down, raised, lowered] = [-1, -1, 0, 0];
    for (let place = 0; place < value.length; place++) {
      if (closed[place]) continue;
      const slope = Math.fround(gradient[place]);
      const rise = Math.fround(Math.fround(Math.fround(high[place]) - value[place]) * slope);
      const fall = Math.fround(Math.fround(Math.fround(low[place]) - value[place]) * slope);
      if (rise > raised) [up, raised] = [place, rise];
      if (fall > lowered) [down, lowered] = [place, fall];
    }
    if (up < 0 && down < 0) return null;
    return raised >= lowered ? { place: up, to: high[up] } : { place: down, to: low[down] };
  }

  /**
   * Set one entry, and bring the first pre-activations up to date.
   *
   * @param {{place: number, to: number}} change
   * @param {boolean} again whether the entry may change again
   */
  change({ place, to }, again) {
    const [first, narrow, width] = [this.first, this.narrow, this.value.length];
    const step = Math.fround(Math.fround(to) - this.value[place]);
    this.value[place] = to;
    this.closed[place] = again ? 0 : 1;
    for (let unit = 0; unit < first.length; unit++) {
      first[unit] += Math.fround(step * narrow[unit * width + place]);
    }
  }

  /**
   * Bring the gradient up to date. From step to step few hidden units switch on or off, and then
   * only their rows of the weights are read.
   *
   * @param {Float32Array} delta
   */
  #follow(delta) {
    const more = Float64Array.from(delta, (slope, unit) => slope - this.delta[unit]);
    if (2 * nonzeros(more) < nonzeros(delta)) {
      addRows(this.gradient, this.narrow, more);
    } else {
      this.gradient.fill(0);
      addRows(this.gradient, this.narrow, delta);
    }
    this.delta = delta;
  }
}

/** @param {ArrayLike<number>} numbers */
function nonzeros(numbers) {
  let count = 0;
  for (let i = 0; i < numbers.length; i++) if (numbers[i] !== 0) count++;
  return count;
}
