// The defense model: a fully connected ReLU network.
//
// Products are summed in double precision and kept in float32, as the bundle format has it.

/** @typedef {import("./types.js").Ratings} Ratings */

/** A fully connected ReLU network with at least one hidden layer, for inference only. */
export class Network {
  /**
   * @param {Float32Array[]} weights one a layer, (outputs, inputs) row by row
   * @param {Float32Array[]} biases one a layer, (outputs,)
   */
  constructor(weights, biases) {
    this.weights = weights;
    this.biases = biases;
    /** Width of every layer from the inputs to the outputs. */
    this.sizes = [weights[0].length / biases[0].length, ...biases.map((bias) => bias.length)];
  }

  get features() {
    return this.sizes[0];
  }

  get classes() {
    return this.sizes[this.sizes.length - 1];
  }

  /**
   * Return the first layer's pre-activations.
   *
   * @param {Ratings} record
   */
  first({ feature, value }) {
    const [weight, features] = [this.weights[0], this.features];
    return this.biases[0].map((bias, unit) => {
      let sum = bias;
      for (let i = 0; i < feature.length; i++) {
        sum += weight[unit * features + feature[i]] * Math.fround(value[i]);
      }
      return sum;
    });
  }

  /**
   * Return every layer's pre-activations, `first` included; the last are the logits.
   *
   * @param {Float32Array} first
   */
  forward(first) {
    const layers = [first];
    for (let layer = 1; layer < this.weights.length; layer++) {
      const [weight, below] = [this.weights[layer], layers[layer - 1]];
      layers.push(
        this.biases[layer].map((bias, unit) => {
          let sum = bias;
          for (let i = 0, at = unit * below.length; i < below.length; i++, at++) {
            if (below[i] > 0) sum += weight[at] * below[i];
          }
          return sum;
        }),
      );
    }
    return layers;
  }

  /**
   * Return the gradient of one logit with respect to the first pre-activations; times the first
   * layer's weights it is the gradient at the inputs. A ReLU at exactly zero passes nothing.
   *
   * @param {Float32Array[]} layers from `forward`; the logits are not looked at
   * @param {number} output which logit to differentiate
   * @param {number | null} against another logit, to be subtracted from the first
   */
  backward(layers, output, against = null) {
    const last = this.weights.length - 1;
    const width = layers[last - 1].length;
    let gradient = this.weights[last].slice(output * width, (output + 1) * width);
    if (against !== null) {
      const other = this.weights[last].subarray(against * width, (against + 1) * width);
      gradient = gradient.map((slope, i) => slope - other[i]);
    }
    gradient = passed(gradient, layers[last - 1]);
    for (let layer = last - 1; layer > 0; layer--) {
      const below = layers[layer - 1];
      const sums = new Float64Array(below.length);
      addRows(sums, this.weights[layer], gradient);
      gradient = passed(Float32Array.from(sums), below);
    }
    return gradient;
  }

  /**
   * Return the outputs before softmax.
   *
   * @param {Ratings} record
   */
  logits(record) {
    return this.forward(this.first(record))[this.weights.length - 1];
  }
}

/**
 * Add the rows of a matrix, each times its factor, to `sums`; rows of factor 0 cost nothing.
 *
 * @param {Float64Array} sums
 * @param {Float32Array} matrix
 * @param {ArrayLike<number>} factors one a row
 */
export function addRows(sums, matrix, factors) {
  const width = sums.length;
  const rows = [];
  for (let row = 0; row < factors.length; row++) if (factors[row] !== 0) rows.push(row);
  let next = 0;
  // Four rows at a time read and write the sums a quarter as often.
  for (; next + 4 <= rows.length; next += 4) {
    const [a, b, c, d] = rows.slice(next, next + 4);
    const [fa, fb, fc, fd] = [factors[a], factors[b], factors[c], factors[d]];
    const [ra, rb, rc, rd] = [a * width, b * width, c * width, d * width];
    for (let i = 0; i < width; i++) {
      const more = fa * matrix[ra + i] + fb * matrix[rb + i];
      sums[i] += more + fc * matrix[rc + i] + fd * matrix[rd + i];
    }
  }
  for (; next < rows.length; next++) {
    const [factor, start] = [factors[rows[next]], rows[next] * width];
    for (let i = 0; i < width; i++) sums[i] += factor * matrix[start + i];
  }
}

/**
 * Return the part of a gradient that ReLUs let through.
 *
 * @param {Float32Array} gradient
 * @param {Float32Array} layer
 */
function passed(gradient, layer) {
  return gradient.map((slope, unit) => (layer[unit] > 0 ? slope : 0));
}

/**
 * Return class probabilities in double precision; no overflow, however large the logits.
 *
 * @param {Float32Array} logits
 * @param {number} temperature above 0
 */
export function softmax(logits, temperature = 1) {
  const most = logits.reduce((one, other) => Math.max(one, other));
  const powers = Float64Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

/**
 * Return where the largest number stands, the first one of equals; `except` is not looked at.
 *
 * @param {ArrayLike<number>} numbers
 * @param {number} except
 */
export function largest(numbers, except = -1) {
  let best = except === 0 ? 1 : 0;
  for (let i = best + 1; i < numbers.length; i++) {
    if (i !== except && numbers[i] > numbers[best]) best = i;
  }
  return best;
}
