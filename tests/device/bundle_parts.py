"""Bundle files taken apart and put together again, by the format's description alone."""

import hashlib
import json
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

DTYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1"}


@dataclass(frozen=True)
class Parts:
    """A document, and the tensors by name: (dtype, shape, bytes), in the file's order."""

    document: dict[str, Any]
    tensors: dict[str, tuple[str, list[int], bytes]]

    def change(self, **fields: Any) -> "Parts":
        return replace(self, document=self.document | fields)

    def settings(self, **some: Any) -> "Parts":
        return self.change(settings=self.document["settings"] | some)

    def tensor(self, name: str, values: np.ndarray) -> "Parts":
        """Replace or add a tensor."""
        (dtype,) = (each for each in DTYPES if np.dtype(DTYPES[each]) == values.dtype)
        entry = (dtype, list(values.shape), values.tobytes())
        return replace(self, tensors=self.tensors | {name: entry})

    def values(self, name: str) -> np.ndarray:
        dtype, shape, data = self.tensors[name]
        return np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy()


def take_apart(content: bytes) -> Parts:
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.pop("__metadata__")
    tensors = {
        name: (each["dtype"], each["shape"], body[slice(*each["data_offsets"])])
        for name, each in sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    }
    return Parts(json.loads(metadata["privet"]), tensors)


def header_of(parts: Parts, *, text: str | None = None, digest: str | None = None) -> dict:
    """The header as JSON values; its document's ``text`` and digest may be others than right."""
    text = json.dumps(parts.document) if text is None else text
    metadata = {"privet": text, "digest": digest_of(parts, text) if digest is None else digest}
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape, data) in parts.tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    return header


def put_together(parts: Parts, **other: Any) -> bytes:
    """The file of some parts; see `header_of`."""
    return with_header(header_of(parts, **other), body_of(parts))


def with_header(header: Any, body: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


def body_of(parts: Parts) -> bytes:
    return b"".join(data for _, _, data in parts.tensors.values())


def digest_of(parts: Parts, text: str) -> str:
    """The digest that belongs to the parts, as far as they have one."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for name, (dtype, shape, data) in sorted(parts.tensors.items()):
        if name.startswith("scale.") or dtype not in DTYPES:
            continue
        values = _whole(data, dtype).astype("<f4")
        scale = parts.tensors.get(name.replace("weight", "scale"))
        if dtype == "I8" and scale is not None:
            rows = _whole(scale[2], scale[0])
            if len(shape) == 2 and values.size == shape[0] * shape[1] and len(rows) == shape[0]:
                with np.errstate(all="ignore"):
                    values = (values.reshape(shape) * rows[:, None]).astype("<f4")
        digest.update(f"\n{name} {'x'.join(map(str, shape))}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _whole(data: bytes, dtype: str) -> np.ndarray:
    """The numbers in some bytes, as far as they go."""
    size = np.dtype(DTYPES[dtype]).itemsize
    return np.frombuffer(data[: len(data) // size * size], DTYPES[dtype])


def of_classes(parts: Parts, classes: int) -> Parts:
    """The parts with another number of classes, of which nothing else is said."""
    layers = parts.document["layers"]
    last, width = len(layers) - 2, layers[-2]
    weight = np.full((classes, width), 0.01, "<f4")
    parts = parts.tensor(f"weight.{last}", weight).tensor(f"bias.{last}", weight[:, 0].copy())
    return parts.change(layers=[*layers[:-1], classes], prior=None, class_names=None, self_test=[])


def as_int8(parts: Parts) -> Parts:
    """The parts stored with whole numbers and scales of powers of two."""
    for name in [name for name in parts.tensors if name.startswith("weight")]:
        weight = parts.values(name)
        scale = 2.0 ** np.ceil(np.log2(np.maximum(abs(weight).max(axis=1), 1e-6) / 127))
        levels = np.rint(weight / scale[:, None]).clip(-127, 127)
        parts = parts.tensor(name, levels.astype("i1"))
        parts = parts.tensor(name.replace("weight", "scale"), scale.astype("<f4"))
    return parts.change(self_test=[])


def as_float16(parts: Parts) -> Parts:
    """The parts stored in half precision."""
    for name in parts.tensors:
        parts = parts.tensor(name, parts.values(name).astype("<f2"))
    return parts.change(self_test=[])
