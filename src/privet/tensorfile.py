"""Safetensors files that hold a JSON document, as privet writes them and as it dares to read them.

Equal content gives equal files, byte for byte. Reading a header executes nothing, and checks every
declared size against the file before anyone allocates memory for it.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Set
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

from privet.errors import DataError

MAX_HEADER = 4 << 20
MAX_FILE = 4 << 30
MAX_AXES = 8
MAX_DEPTH = 32  # of nested objects and lists
ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}

Data = bytes | memoryview
"""Little-endian, row-major values."""


class Kind(NamedTuple):
    """What a header says of one tensor: its name for the type of number, and its sizes."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that its values take."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def write_tensors(
    path: Path, metadata: Mapping[str, str], tensors: Mapping[str, tuple[Kind, Data]]
) -> None:
    """Write a header and tensors to ``path``.

    Not atomic: give a path from `privet.files.replacing`.

    Raises
    ------
    DataError
        When the header exceeds 4 MiB, or the whole file 4 GiB.
    """
    # Largest numbers first, then every tensor begins at a multiple of its item's size.
    order = sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name][0].dtype], name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        kind = tensors[name][0]
        start, end = end, end + kind.nbytes
        header[name] = {"dtype": kind.dtype, "shape": kind.shape, "data_offsets": [start, end]}
    head = as_json(header).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > MAX_HEADER or 8 + len(head) + end > MAX_FILE:
        raise DataError(
            f"a header of {len(head):,} and tensors of {end:,} bytes; a file takes "
            f"{MAX_HEADER:,} and {MAX_FILE:,}"
        )
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            file.write(tensors[name][1])


def read_header(path: Path) -> tuple[dict[str, str], dict[str, Kind]]:
    """Return the metadata of a file that is not trusted, and what it says of each tensor.

    The tensors are then known to fill the file once, without gaps.

    Raises
    ------
    DataError, ValueError, TypeError, RecursionError
        When the header is damaged, too large, or contradicts itself or the file's size. Callers
        turn what is no `DataError` into one that names the file.
    """
    check_size(path.stat().st_size)  # before opening: pipes and devices have none
    with path.open("rb") as file:
        header = read_open_header(file)
    return header.metadata, header.kinds


class Header(NamedTuple):
    """What `read_open_header` finds; ``starts`` counts bytes from the beginning of the file."""

    metadata: dict[str, str]
    kinds: dict[str, Kind]
    starts: dict[str, int]


def check_size(size: int) -> None:
    """Raise `DataError` on a file of so many bytes that it cannot be one."""
    if not 8 <= size <= MAX_FILE:
        raise DataError(f"it should have 8 to {MAX_FILE:,} bytes, and has {size:,}")


def read_open_header(file: BufferedIOBase) -> Header:
    """Read the header of an open file, as `read_header` does and with the same errors."""
    size = file.seek(0, os.SEEK_END)
    check_size(size)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER, size - 8):
        raise DataError(f"cut short or not a safetensors file ({size:,} bytes)")
    header = parse(file.read(length).decode())
    metadata = header.pop("__metadata__", None)
    texts = isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())
    if not texts:
        raise DataError("its metadata must be an object of strings")
    kinds, starts, spans = {}, {}, []
    for name, tensor in header.items():
        kinds[name], span = _read_tensor(name, tensor)
        starts[name] = 8 + length + span[0]
        spans.append(span)
    ends = [0, *(end for _, end in sorted(spans))]
    if [start for start, _ in sorted(spans)] != ends[:-1] or ends[-1] != size - 8 - length:
        raise DataError("its tensors overlap, leave gaps, or do not end with the file")
    return Header(metadata, kinds, starts)


def _read_tensor(name: str, tensor: Any) -> tuple[Kind, list[int]]:
    """Return one tensor's kind, and the start and end of its bytes."""
    if set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise DataError(f"tensor {name[:40]!r} is not described by dtype, shape, offsets")
    dtype, shape, span = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise DataError(f"tensor {name[:40]!r} has dtype {str(dtype)[:40]!r}")
    kind = Kind(dtype, read_shape(name, shape))
    if not isinstance(span, list) or [type(place) for place in span] != [int, int]:
        raise DataError(f"tensor {name[:40]!r} has no start and end")
    if span[1] - span[0] != kind.nbytes:
        raise DataError(f"tensor {name[:40]!r} does not fill the bytes it claims")
    return kind, span


def read_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return sizes that JSON gave; `DataError` unless a file of 4 GiB could hold such a tensor."""
    integers = isinstance(shape, list) and all(type(size) is int for size in shape)
    if not integers or len(shape) > MAX_AXES or not all(0 <= size <= MAX_FILE for size in shape):
        raise DataError(f"tensor {name[:40]!r} has a bad shape: {str(shape)[:60]}")
    return tuple(shape)


def open_document(
    metadata: Mapping[str, str], *, format: str, version: int, fields: Set[str]
) -> dict[str, Any]:
    """Return the document that a file's metadata holds beside its digest.

    Raises
    ------
    DataError, ValueError, RecursionError
        Unless it is strict JSON of such a format and version, with exactly these fields.
    """
    if set(metadata) != {"privet", "digest"}:
        raise DataError("its metadata must be exactly 'privet' and 'digest'")
    document = parse(metadata["privet"])
    if document.get("format") != format:
        raise DataError(f"its format is {str(document.get('format'))[:40]!r}, not {format!r}")
    found = document.get("version")
    if type(found) is not int or found != version:
        raise DataError(
            f"its format version is {str(found)[:40]!r}; this privet reads version {version}: "
            f"update privet, or have the file made again"
        )
    if set(document) != fields:
        raise DataError(f"fields missing or unknown: {sorted(set(document) ^ fields)}")
    return document


def in_one_line(error: Exception) -> str:
    """Return what a reader stumbled over, for a message that names the file."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def digest_of(text: str, tensors: Mapping[str, tuple[Kind, Data]]) -> str:
    """Return the SHA-256 of a document's text and of all tensors as they are stored."""
    digest = hashlib.sha256(text.encode())
    for name, (kind, data) in sorted(tensors.items()):
        digest.update(f"\n{name} {kind.dtype} {'x'.join(map(str, kind.shape))}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def as_json(value: object) -> str:
    """Return plain JSON in one spelling; `ValueError` for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(text: str) -> dict[str, Any]:
    """Read a JSON object strictly: no NaN, no infinity, no key twice, no deep nesting."""

    def number(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise DataError(f"its JSON holds the number {literal[:20]}")
        return value

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise DataError("its JSON holds a key twice")
        return value

    value = json.loads(text, parse_float=number, parse_constant=number, object_pairs_hook=members)
    if not isinstance(value, dict):
        raise DataError("its JSON must be an object")
    _check_depth(value)
    return value


def _check_depth(value: dict[str, Any]) -> None:
    """Refuse nesting that whoever shows the document could run out of stack on."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        parts = [item.values() if isinstance(item, dict) else item for item in level]
        level = [x for part in parts for x in part if isinstance(x, dict | list)]
        if not level:
            return
    raise DataError(f"its JSON is nested more than {MAX_DEPTH} levels deep")
