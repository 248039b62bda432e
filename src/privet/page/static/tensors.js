// Safetensors files of strangers: every declared size is checked against the file before anything
// is allocated.

import { BundleError } from "./errors.js";
import { isObject, parse } from "./json.js";

/** @typedef {import("./json.js").Json} Json */

/**
 * @typedef {object} Tensor
 * @property {string} dtype
 * @property {number[]} shape
 * @property {number} start first byte in the file
 * @property {number} end
 */

const MAX_HEADER = 2 ** 22;
const MAX_FILE = 2 ** 32;
const MAX_AXES = 8;
/** @type {{[dtype: string]: bigint}} */
const ITEM_BYTES = {
  ...{ F64: 8n, I64: 8n, F32: 4n, I32: 4n, F16: 2n, BF16: 2n, I16: 2n },
  ...{ I8: 1n, U8: 1n, BOOL: 1n },
};

/**
 * Read the header. The tensors are then known to fill the file once, without gaps.
 *
 * @param {ArrayBuffer} buffer
 * @returns {{metadata: Map<string, Json>, tensors: Map<string, Tensor>}}
 */
export function readHeader(buffer) {
  const size = buffer.byteLength;
  if (size < 8 || size > MAX_FILE) {
    throw new BundleError(`it should have 8 to ${MAX_FILE} bytes, and has ${size}`);
  }
  const length = new DataView(buffer).getBigUint64(0, true);
  if (length > Math.min(MAX_HEADER, size - 8)) {
    throw new BundleError(`cut short or not a safetensors file (${size} bytes)`);
  }
  const data = 8 + Number(length);
  const header = parse(decoded(new Uint8Array(buffer, 8, Number(length))));
  const { __metadata__: metadata, ...described } = header;
  if (!isObject(metadata) || !Object.values(metadata).every((text) => typeof text === "string")) {
    throw new BundleError("its metadata must be an object of strings");
  }
  const tensors = new Map(
    Object.entries(described).map(([name, tensor]) => [name, readTensor(name, tensor, data)]),
  );
  let end = data;
  const byPlace = [...tensors.values()].sort((a, b) => a.start - b.start || a.end - b.end);
  for (const tensor of byPlace) {
    if (tensor.start !== end) break;
    end = tensor.end;
  }
  if (end !== size || byPlace.some((tensor) => tensor.end > size)) {
    throw new BundleError("its tensors overlap, leave gaps, or do not end with the file");
  }
  return { metadata: new Map(Object.entries(metadata)), tensors };
}

/**
 * @param {string} name
 * @param {Json} value
 * @param {number} data where the tensors begin
 * @returns {Tensor}
 */
function readTensor(name, value, data) {
  const shown = `tensor '${name.slice(0, 40)}'`;
  if (!isObject(value) || !hasExactly(Object.keys(value), ["dtype", "shape", "data_offsets"])) {
    throw new BundleError(`${shown} is not described by dtype, shape, offsets`);
  }
  const { dtype, shape, data_offsets: span } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(ITEM_BYTES, dtype)) {
    throw new BundleError(`${shown} has a dtype that there is none of`);
  }
  if (!areIntegers(shape) || shape.length > MAX_AXES || !shape.every(isSize)) {
    throw new BundleError(`${shown} has a bad shape`);
  }
  if (!areIntegers(span) || span.length !== 2 || !span.every(isSize)) {
    throw new BundleError(`${shown} has no start and end`);
  }
  const bytes = shape.reduce((product, axis) => product * axis, ITEM_BYTES[dtype]);
  if (span[1] - span[0] !== bytes) {
    throw new BundleError(`${shown} does not fill the bytes it claims`);
  }
  const [start, end] = span.map((place) => data + Number(place));
  return { dtype, shape: shape.map(Number), start, end };
}

/**
 * Return a tensor's values as the numbers they are.
 *
 * @param {ArrayBuffer} buffer
 * @param {Tensor} tensor
 * @returns {Float32Array | Int8Array} float16 as float32
 */
export function valuesOf(buffer, { dtype, start, end }) {
  const bytes = buffer.slice(start, end); // begins at 0, as no tensor in the file has to
  if (dtype === "I8") return new Int8Array(bytes);
  if (dtype === "F32") return new Float32Array(bytes);
  const halves = new Uint16Array(bytes);
  return Float32Array.from(halves, (half) => HALVES[half]);
}

/** Every float16, by its bits. */
const HALVES = Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
});

/** @param {Uint8Array} bytes */
function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new BundleError("its header is no UTF-8");
  }
}

/**
 * Tell whether a list holds the wanted names, each once, and no others.
 *
 * @param {string[]} names
 * @param {readonly string[]} wanted
 */
export function hasExactly(names, wanted) {
  return names.length === wanted.length && wanted.every((name) => names.includes(name));
}

/**
 * @param {Json} value
 * @returns {value is bigint[]}
 */
function areIntegers(value) {
  return Array.isArray(value) && value.every((each) => typeof each === "bigint");
}

/** @param {bigint} value */
function isSize(value) {
  return value >= 0n && value <= MAX_FILE;
}
