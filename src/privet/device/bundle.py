"""The bundle file: one safetensors file whose metadata holds a JSON document and a digest.

``docs/bundle-format.md`` describes the format for other readers and writers. Reading executes
nothing, and allocates nothing for tensors before every declared size has been checked.
"""

import hashlib
import json
import math
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from privet.device.network import Array, Network
from privet.device.protect import Bundle
from privet.device.settings import Settings
from privet.errors import BundleError, DataError
from privet.files import replacing

FORMAT = "privet-bundle"
VERSION = 2
MAX_HEADER = 4 << 20
MAX_FILE = 4 << 30
MAX_DEPTH = 32  # of nested objects and lists
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
SETTINGS = {each.name for each in fields(Settings)}
FIELDS = {
    "format",
    "version",
    "kind",
    "layers",
    "prior",
    "settings",
    "feature_names",
    "class_names",
    "card",
}


def write_bundle(bundle: Bundle, path: Path | str, *, half: bool = False) -> str:
    """Write ``bundle`` to ``path`` atomically and return its digest.

    Equal bundles give equal files, byte for byte. ``half`` stores weights in float16, for half
    the size; the device computes in float32 with what was stored.

    Raises
    ------
    DataError
        When weights are too large for float16, or the card holds what a bundle's JSON cannot.
    BundleError
        When names and card exceed the header's 4 MiB, or the weights 4 GiB.
    """
    dtype = "F16" if half else "F32"
    with np.errstate(over="ignore"):
        stored = {name: a.astype(DTYPES[dtype]) for name, a in _tensors(bundle.network).items()}
    _network(stored)  # refuses what became infinite
    document = {
        "format": FORMAT,
        "version": VERSION,
        "kind": bundle.kind,
        "layers": list(bundle.network.sizes),
        "prior": None if bundle.prior is None else np.asarray(bundle.prior).tolist(),
        "settings": asdict(bundle.settings),
        "feature_names": bundle.feature_names,
        "class_names": bundle.class_names,
        "card": dict(bundle.card),
    }
    try:
        text = _json(document)
        _parse(text)  # refuses what only a reader would notice
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"a bundle's names and card must be plain JSON: {error}") from None
    digest = _digest(text, stored)
    header: dict[str, Any] = {"__metadata__": {"privet": text, "digest": digest}}
    end = 0
    for name, array in stored.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [start, end]}
    head = _json(header).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > MAX_HEADER or 8 + len(head) + end > MAX_FILE:
        raise BundleError(
            f"header of {len(head)} and weights of {end} bytes exceed a bundle's "
            f"{MAX_HEADER} and {MAX_FILE}; shorten the card or prune more"
        )
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in stored.values():
            file.write(np.ascontiguousarray(array).data)
    return digest


def load_bundle(path: Path | str) -> Bundle:
    """Read and verify the bundle at ``path``.

    Raises
    ------
    BundleError
        When the file is missing, damaged, too large, of an unknown version, or not a bundle.
    """
    path = Path(path)
    try:
        text, digest, shapes = _read_header(path)
        document = _parse(text)
        _check_document(document, shapes)
        with safe_open(path, framework="np") as file:
            stored = {name: file.get_tensor(name) for name in shapes}
        if _digest(text, stored) != digest:
            raise BundleError("its digest does not match its content; fetch it again")
        bundle = Bundle(
            kind=document["kind"],
            network=_network(stored),
            prior=_prior(document["prior"]),
            settings=_settings(document["settings"]),
            feature_names=_names("feature_names", document["feature_names"]),
            class_names=_names("class_names", document["class_names"]),
            card=document["card"],
            digest=digest,
        )
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BundleError(f"{path} is no usable bundle: {reason}") from None
    return bundle


def _read_header(path: Path) -> tuple[str, str, dict[str, tuple[int, ...]]]:
    """Check the safetensors header against the file's size; return document, digest, shapes."""
    size = path.stat().st_size
    if not 8 <= size <= MAX_FILE:
        raise BundleError(f"a bundle has 8 to {MAX_FILE} bytes, this file {size}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, size - 8):
            raise BundleError(f"cut short or not a safetensors file ({size} bytes)")
        header = _parse(file.read(length).decode())
    metadata = header.pop("__metadata__", {})
    if set(metadata) != {"privet", "digest"}:
        raise BundleError("its metadata must be exactly 'privet' and 'digest'")
    shapes, spans = {}, []
    for name, tensor in header.items():
        if set(tensor) != {"dtype", "shape", "data_offsets"}:
            raise BundleError(f"tensor {name[:40]!r} is not described by dtype, shape, offsets")
        dtype, shape, span = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        sizes = [*shape, *span]
        if dtype not in DTYPES or not all(type(x) is int and 0 <= x <= MAX_FILE for x in sizes):
            raise BundleError(f"tensor {name[:40]!r} has dtype {dtype!r} or a bad shape or place")
        if len(shape) > 2:
            raise BundleError(f"tensor {name[:40]!r} has {len(shape)} axes; weights have 2")
        if len(span) != 2 or span[1] - span[0] != math.prod(shape) * DTYPES[dtype].itemsize:
            raise BundleError(f"tensor {name[:40]!r} does not fill the bytes it claims")
        shapes[name] = tuple(shape)
        spans.append(span)
    ends = [0, *(end for _, end in sorted(spans))]
    if [start for start, _ in sorted(spans)] != ends[:-1] or ends[-1] != size - 8 - length:
        raise BundleError("its tensors overlap, leave gaps, or do not end with the file")
    return metadata["privet"], metadata["digest"], shapes


def _check_document(document: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    """Check the document's fields, and that exactly the tensors it calls for are there."""
    if document.get("format") != FORMAT:
        raise BundleError(f"its format is {str(document.get('format'))[:40]!r}, not {FORMAT!r}")
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise BundleError(
            f"its format version is {str(version)[:40]!r}; "
            f"this privet reads version {VERSION}: update privet or fetch another bundle"
        )
    if set(document) != FIELDS:
        raise BundleError(f"fields missing or unknown: {sorted(set(document) ^ FIELDS)}")
    layers = document["layers"]
    if not isinstance(layers, list) or not all(type(x) is int and x > 0 for x in layers):
        raise BundleError(f"layers must be a list of sizes; got {str(layers)[:60]}")
    expected: dict[str, tuple[int, ...]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(layers)):
        expected |= {f"weight.{layer}": (outputs, inputs), f"bias.{layer}": (outputs,)}
    if shapes != expected:
        odd = sorted(str(item)[:60] for item in shapes.items() ^ expected.items())[:3]
        raise BundleError(f"tensors missing, unknown, or of the wrong shape: {odd}")
    if not isinstance(document["card"], dict):
        raise BundleError("its card must be an object")


def _settings(value: dict[str, Any]) -> Settings:
    """Return the settings; unknown ones are refused, since they would change the release."""
    if set(value) != SETTINGS:
        odd = sorted(set(value) ^ SETTINGS)
        raise BundleError(f"settings missing or unknown: {str(odd)[:100]}")
    margins = value["margins"]
    if not isinstance(margins, list) or not all(isinstance(point, list) for point in margins):
        raise BundleError("margins must be a list of lists")
    return Settings(
        max_steps=value["max_steps"],
        margins=tuple(tuple(point) for point in margins),
        policy=value["policy"],
        low=_numbers(value["low"]),
        high=_numbers(value["high"]),
        never=_list("never", value["never"]),
        mechanism=value["mechanism"],
        temperature=value["temperature"],
        leak=value["leak"],
    )


def _list(what: str, value: Any) -> Any:
    if not isinstance(value, list):
        raise BundleError(f"{what} must be a list")
    return tuple(value)


def _numbers(value: Any) -> Any:
    """Return a list as a tuple; anything else is for `Settings` to judge."""
    return tuple(value) if isinstance(value, list) else value


def _prior(value: Any) -> Any:
    """Return a prior of plain numbers; NumPy would take text and truth values for some, too."""
    numbers = isinstance(value, list) and all(type(share) in (int, float) for share in value)
    if not (value is None or numbers):
        raise BundleError("its prior must be a list of numbers, or null")
    return value


def _names(what: str, value: Any) -> tuple[str, ...] | None:
    """Return a list of names as a tuple; a string is no list of its letters."""
    if not (value is None or isinstance(value, list)):
        raise BundleError(f"its {what} must be a list of strings, or null")
    return None if value is None else tuple(value)


def _tensors(network: Network) -> dict[str, Array]:
    """Return the network's arrays by the names they have in the file."""
    tensors: dict[str, Array] = {}
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        tensors |= {f"weight.{layer}": weight, f"bias.{layer}": bias}
    return tensors


def _network(tensors: dict[str, Array]) -> Network:
    """Undo `_tensors`, in float32."""
    layers = range(len(tensors) // 2)
    return Network(
        tuple(tensors[f"weight.{layer}"].astype(np.float32) for layer in layers),
        tuple(tensors[f"bias.{layer}"].astype(np.float32) for layer in layers),
    )


def _digest(text: str, tensors: dict[str, Array]) -> str:
    """Return the SHA-256 of the document's text and the weights' values as float32."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(tensors.items()):
        shape = "x".join(map(str, array.shape))
        digest.update(f"\n{name} {shape}\n".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _parse(text: str) -> dict[str, Any]:
    """Read a JSON object strictly: no NaN, no infinity, no key twice, no deep nesting."""

    def number(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise BundleError(f"its JSON holds the number {literal[:20]}")
        return value

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise BundleError("its JSON holds a key twice")
        return value

    value = json.loads(text, parse_float=number, parse_constant=number, object_pairs_hook=members)
    if not isinstance(value, dict):
        raise BundleError("its JSON must be an object")
    _check_depth(value)
    return value


def _check_depth(value: dict[str, Any]) -> None:
    """Refuse nesting that whoever shows or rewrites the card could run out of stack on."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        parts = [item.values() if isinstance(item, dict) else item for item in level]
        level = [x for part in parts for x in part if isinstance(x, dict | list)]
        if not level:
            return
    raise BundleError(f"its JSON is nested more than {MAX_DEPTH} levels deep")
