// The bundle file: one safetensors file whose metadata holds a JSON document and a digest.
// `docs/bundle-format.md` describes it. Reading one runs nothing that it holds.

import { hex, sha256 } from "./digest.js";
import { BundleError } from "./errors.js";
import { isObject, parse, plain } from "./json.js";
import { Network } from "./network.js";
import { STOPS } from "./protect.js";
import { numberOf, readCases, readSettings } from "./settings.js";
import { stripped } from "./spelling.js";
import { hasExactly, readHeader, valuesOf } from "./tensors.js";

/** @typedef {import("./json.js").Json} Json */
/** @typedef {import("./json.js").JsonObject} JsonObject */
/** @typedef {import("./tensors.js").Tensor} Tensor */

const FORMAT = "privet-bundle";
const VERSION = 3n;
const FIELDS = [
  ...["format", "version", "kind", "layers", "prior", "settings"],
  ...["feature_names", "class_names", "self_test", "card"],
];
const MOST_GAIN = 1e30; // float32 ends at 3.4e38
const MOST_LOGITS = 4_000_000; // of a record's candidates

/**
 * Read and verify an attribute bundle.
 *
 * @param {ArrayBuffer} buffer the file's bytes
 * @returns {Promise<import("./types.js").Bundle>} rejects with a `BundleError`
 */
export async function readBundle(buffer) {
  try {
    return await read(buffer);
  } catch (error) {
    if (!(error instanceof BundleError)) throw error;
    throw new BundleError(`no usable bundle: ${error.message}`);
  }
}

/** @param {ArrayBuffer} buffer */
async function read(buffer) {
  const { metadata, tensors } = readHeader(buffer);
  const [text, digest] = [metadata.get("privet"), metadata.get("digest")];
  if (metadata.size !== 2 || typeof text !== "string" || typeof digest !== "string") {
    throw new BundleError("its metadata must be exactly 'privet' and 'digest'");
  }
  const document = parse(text);
  const sizes = checkDocument(document);
  checkTensors(tensors, sizes);
  const network = readNetwork(buffer, tensors, sizes);
  if ((await digestOf(text, network)) !== digest) {
    throw new BundleError("its digest does not match its content; fetch it again");
  }
  checkGain(network);
  const settings = readSettings(document.settings, network.features);
  const kept = settings.mechanism === "answers" ? (settings.maxSteps ?? STOPS) : 1;
  if (kept * network.classes ** 2 > MOST_LOGITS) {
    throw new BundleError("too many classes, or too many steps for so many of them");
  }
  return {
    kind: /** @type {const} */ ("attribute"),
    ...{ network, settings, digest },
    prior: readPrior(document.prior, network.classes),
    featureNames: different(names("feature_names", document.feature_names, network.features)),
    classNames: names("class_names", document.class_names, network.classes),
    card: /** @type {Record<string, unknown>} */ (plain(document.card)),
    selfTest: readCases(document.self_test, sizes),
  };
}

/**
 * Check the document's fields, as far as they say which tensors there are.
 *
 * @param {JsonObject} document
 * @returns {number[]} the layers
 */
function checkDocument(document) {
  const { format, version, kind, layers, card } = document;
  if (format !== FORMAT) throw new BundleError(`its format is not '${FORMAT}'`);
  if (version !== VERSION) {
    throw new BundleError(
      `this page reads format version ${VERSION} only: fetch a newer page, or another bundle`,
    );
  }
  if (!hasExactly(Object.keys(document), FIELDS)) {
    throw new BundleError("fields missing or unknown");
  }
  if (kind === "membership") {
    throw new BundleError(
      "it is for whoever serves a model, to protect its answers (membership); this page is for " +
        "people's own records",
    );
  }
  if (kind !== "attribute") throw new BundleError("its kind must be attribute or membership");
  if (!Array.isArray(layers) || !layers.every((size) => typeof size === "bigint" && size > 0n)) {
    throw new BundleError("layers must be a list of sizes");
  }
  const sizes = layers.map(Number);
  if (sizes.length < 3) throw new BundleError("a network needs at least two layers");
  if (sizes[sizes.length - 1] === 1) throw new BundleError("an attribute has at least two classes");
  if (!isObject(card)) throw new BundleError("its card must be an object");
  return sizes;
}

/**
 * Check that exactly the tensors are there which layers and precision call for.
 *
 * @param {Map<string, Tensor>} tensors
 * @param {number[]} sizes
 */
function checkTensors(tensors, sizes) {
  const precision = tensors.get("weight.0")?.dtype ?? "";
  if (!["F32", "F16", "I8"].includes(precision)) {
    throw new BundleError("its weights must be stored as one of F32, F16, I8");
  }
  if (tensors.size < 2 * (sizes.length - 1)) throw new BundleError("tensors missing");
  const bias = precision === "F16" ? "F16" : "F32";
  /** @type {Map<string, string>} */
  const expected = new Map();
  sizes.slice(1).forEach((outputs, layer) => {
    expected.set(`weight.${layer}`, `${precision} ${outputs},${sizes[layer]}`);
    expected.set(`bias.${layer}`, `${bias} ${outputs}`);
    if (precision === "I8") expected.set(`scale.${layer}`, `F32 ${outputs}`);
  });
  for (const name of new Set([...tensors.keys(), ...expected.keys()])) {
    const { dtype, shape } = tensors.get(name) ?? { dtype: "no", shape: [] };
    if (`${dtype} ${shape}` !== expected.get(name)) {
      throw new BundleError(
        `tensor '${name.slice(0, 40)}' is missing, unknown, or of the wrong type or shape`,
      );
    }
  }
}

/**
 * @param {ArrayBuffer} buffer
 * @param {Map<string, Tensor>} tensors as checked
 * @param {number[]} sizes
 */
function readNetwork(buffer, tensors, sizes) {
  /** @param {string} name */
  const values = (name) => valuesOf(buffer, /** @type {Tensor} */ (tensors.get(name)));
  const layers = [...sizes.keys()].slice(1).map((layer) => layer - 1);
  const weights = layers.map((layer) => {
    const stored = values(`weight.${layer}`);
    if (stored instanceof Float32Array) return stored;
    return fromLevels(stored, Float32Array.from(values(`scale.${layer}`)));
  });
  const biases = layers.map((layer) => Float32Array.from(values(`bias.${layer}`)));
  const odd = [...weights, ...biases].findIndex((numbers) => !numbers.every(Number.isFinite));
  if (odd >= 0) throw new BundleError(`layer ${odd % layers.length} holds NaN or infinite numbers`);
  return new Network(weights, biases);
}

/**
 * Return the weights that int8 levels, and one scale a row, stand for.
 *
 * @param {Int8Array} levels
 * @param {Float32Array} scale
 */
function fromLevels(levels, scale) {
  if (levels.includes(-128)) throw new BundleError("int8 weights must lie in -127..127; got -128");
  if (!scale.every((each) => each > 0 && each < Infinity)) {
    throw new BundleError("int8 scales must be finite and above 0");
  }
  const width = levels.length / scale.length;
  const weight = new Float32Array(levels.length);
  scale.forEach((each, row) => {
    for (let at = row * width; at < (row + 1) * width; at++) weight[at] = levels[at] * each;
  });
  return weight;
}

/**
 * Refuse a network whose numbers are finite, but whose sums and products may not be.
 *
 * @param {Network} network
 */
function checkGain({ weights, biases }) {
  const gain = weights.reduce((product, weight, layer) => {
    const width = weight.length / biases[layer].length;
    let most = 1;
    biases[layer].forEach((bias, row) => {
      let sum = Math.abs(bias);
      for (let at = row * width; at < (row + 1) * width; at++) sum += Math.abs(weight[at]);
      most = Math.max(most, sum);
    });
    return product * most;
  }, 1);
  if (gain > MOST_GAIN) throw new BundleError("its weights are too large: float32 could overflow");
}

/**
 * Return the SHA-256 of the document's text and of what the device computes with.
 *
 * @param {string} text
 * @param {Network} network
 */
async function digestOf(text, { weights, biases, sizes }) {
  // A lone surrogate has no UTF-8.
  if (/\p{Surrogate}/u.test(text)) throw new BundleError("its document is no text");
  /** @type {[string, Float32Array][]} */
  const named = [];
  weights.forEach((weight, layer) => {
    named.push([`weight.${layer} ${sizes[layer + 1]}x${sizes[layer]}`, weight]);
    named.push([`bias.${layer} ${sizes[layer + 1]}`, biases[layer]]);
  });
  named.sort(([one], [other]) => (one < other ? -1 : 1));
  const encoder = new TextEncoder();
  const content = await new Blob([
    encoder.encode(text),
    ...named.flatMap(([name, values]) => [encoder.encode(`\n${name}\n`), values.slice()]),
  ]).arrayBuffer();
  return hex(await sha256(content));
}

/**
 * @param {Json} value
 * @param {number} classes
 */
function readPrior(value, classes) {
  if (value === null) return new Float64Array(classes).fill(1 / classes);
  const prior = Float64Array.from(Array.isArray(value) ? value : [], numberOf);
  const total = prior.reduce((sum, share) => sum + share, 0);
  if (prior.length !== classes || !prior.every((share) => share >= 0) || !near(total, 1)) {
    throw new BundleError(`its prior must be ${classes} probabilities that sum to 1, or null`);
  }
  return prior;
}

/**
 * @param {number} one
 * @param {number} other
 */
function near(one, other) {
  return Math.abs(one - other) <= 1e-5;
}

/**
 * @param {string} what
 * @param {Json} value
 * @param {number} count
 */
function names(what, value, count) {
  if (value === null) return null;
  if (Array.isArray(value) && value.length === count) {
    const strings = value.filter((name) => typeof name === "string");
    if (strings.length === count) return strings;
  }
  throw new BundleError(`its ${what} must be a list of ${count} strings, or null`);
}

/**
 * Refuse names that a file's header could mean two columns by.
 *
 * @param {string[] | null} named
 */
function different(named) {
  const count = named?.length ?? 0;
  if (new Set(named?.map(stripped)).size === count) return named;
  throw new BundleError("its feature_names must differ, blanks around them aside");
}
