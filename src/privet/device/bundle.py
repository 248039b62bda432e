"""The bundle file: one safetensors file whose metadata holds a JSON document and a digest.

``docs/bundle-format.md`` describes the format for other readers and writers. Reading executes
nothing, and allocates nothing for tensors before every declared size has been checked.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from privet.device.document import bundle_of, document_of, read_document, settings_of
from privet.device.network import ROWS, Float32, Network
from privet.device.protect import Bundle, logits_kept
from privet.device.quantize import LEVELS, Precision, from_levels, quantized, to_levels
from privet.device.self_test import make_cases
from privet.errors import BundleError, DataError
from privet.files import replacing
from privet.tensorfile import (
    Data,
    Header,
    Kind,
    as_json,
    check_size,
    in_one_line,
    read_open_header,
    write_tensors,
)

MOST_GAIN = 1e30  # float32 ends at 3.4e38
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
}
STORED_AS: dict[Precision, str] = {"float32": "F32", "float16": "F16", "int8": "I8"}
Stored = dict[str, NDArray[Any]]


def write_bundle(bundle: Bundle, path: Path | str, *, precision: Precision = "float32") -> str:
    """Write ``bundle`` to ``path`` atomically and return its digest.

    Equal bundles give equal files, byte for byte. The file's self-test is made anew, from the
    network as it is stored. A membership bundle is secret: nobody but its owner may read the file.

    Parameters
    ----------
    precision
        How to store weights: "float16" takes half the room of "float32", "int8" a quarter. The
        device computes in float32 with what was stored; see `privet.device.quantize.quantized`.

    Raises
    ------
    DataError
        When weights are too large, for float16 or for any bundle, or the card holds what a
        bundle's JSON cannot.
    BundleError
        When names and card exceed the header's 4 MiB, or the weights 4 GiB.
    OptionError
        On a precision that there is none of.
    """
    bundle = replace(bundle, network=quantized(bundle.network, precision))
    _check_gain(bundle.network)
    try:
        # Before the self-test, which takes longer.
        read_document({"privet": as_json(document_of(bundle)), "digest": ""})
        text = as_json(document_of(replace(bundle, self_test=make_cases(bundle))))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"a bundle's names and card must be plain JSON: {error}") from None
    digest = _digest(text, bundle.network)
    tensors = _stored(bundle.network, precision)
    with replacing(Path(path), mode=mode_of(bundle)) as temporary:
        try:
            write_tensors(temporary, {"privet": text, "digest": digest}, tensors)
        except DataError as error:
            raise BundleError(f"{error}; shorten the card or prune more") from None
    return digest


def mode_of(bundle: Bundle) -> int | None:
    """Return the permissions of a file that holds a bundle's network, None for the usual ones.

    Whoever has a membership bundle can undo the protection: it is kept as its key is.
    """
    return 0o600 if bundle.kind == "membership" else None


def load_bundle(path: Path | str) -> Bundle:
    """Read and verify the bundle at ``path``.

    The self-test is read, not run: see `privet.device.self_test.run_self_test`.

    Raises
    ------
    BundleError
        When the file is missing, damaged, too large, of an unknown version, or not a bundle.
    """
    with _opened(path) as file:
        return _read(file)


def read_bundle(content: bytes, name: Path | str = "the file") -> Bundle:
    """Read and verify a bundle from a file's content, as `load_bundle` does; errors say ``name``.

    For whoever checks the bytes first, such as a signature: what was checked is what is read.
    """
    with _refusing(name):
        return _read(io.BytesIO(content))


@dataclass(frozen=True)
class Outline:
    """What a bundle file is: what it protects, its layers from input to output, its precision.

    ``logits`` are those of one record's candidates, see `logits_kept`; a membership bundle has one.
    """

    kind: Literal["attribute", "membership"]
    layers: tuple[int, ...]
    precision: Precision
    logits: int


def outline(path: Path | str) -> Outline:
    """Return what the bundle at ``path`` is, from its header alone; raises like `load_bundle`.

    Weights are not read, so that the digest is not checked.
    """
    with _opened(path) as file:
        return _check_header(read_open_header(file))[1]


@contextmanager
def _opened(path: Path | str) -> Iterator[io.BufferedIOBase]:
    """Open a bundle file; what goes wrong while reading it becomes a `BundleError`."""
    path = Path(path)
    try:
        with _refusing(path):
            check_size(path.stat().st_size)  # before opening: pipes and devices have none
            with path.open("rb") as file:
                yield file
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from None


@contextmanager
def _refusing(name: Path | str) -> Iterator[None]:
    """Turn whatever a reader stumbles over into one line about the file."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(f"{name} is no usable bundle: {in_one_line(error)}") from None


def _read(file: io.BufferedIOBase) -> Bundle:
    header = read_open_header(file)
    document, found = _check_header(header)
    network = _network({name: _values(file, name, header) for name in header.kinds}, found)
    if _digest(header.metadata["privet"], network) != header.metadata["digest"]:
        raise BundleError("its digest does not match its content; fetch it again")
    _check_gain(network)
    return bundle_of(document, network, digest=header.metadata["digest"])


def _check_header(header: Header) -> tuple[dict[str, Any], Outline]:
    """Return the document, and the outline; exactly the tensors that they call for are there."""
    document = read_document(header.metadata)
    first = header.kinds.get("weight.0")
    precisions = [name for name, dtype in STORED_AS.items() if first and first.dtype == dtype]
    if not precisions:
        raise BundleError(f"its weights must be stored as one of {', '.join(STORED_AS.values())}")
    layers = tuple(document["layers"])
    logits = logits_kept(settings_of(document), layers[-1])
    found = Outline(document["kind"], layers, precisions[0], logits)
    if len(found.layers) > len(header.kinds) + 1:
        raise BundleError(f"layers lists {len(found.layers)}, too many for its tensors")
    expected = _kinds(found.layers, found.precision)
    if header.kinds != expected:
        odd = sorted(str(item)[:70] for item in header.kinds.items() ^ expected.items())[:3]
        raise BundleError(f"tensors missing, unknown, or of the wrong type or shape: {odd}")
    return document, found


def _kinds(layers: Sequence[int], precision: Precision) -> dict[str, Kind]:
    """Return the tensors that a bundle's file has."""
    weight, small = STORED_AS[precision], precision == "int8"
    kinds: dict[str, Kind] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(layers)):
        kinds[f"weight.{layer}"] = Kind(weight, (outputs, inputs))
        kinds[f"bias.{layer}"] = Kind("F32" if small else weight, (outputs,))
        if small:
            kinds[f"scale.{layer}"] = Kind("F32", (outputs,))
    return kinds


def _values(file: io.BufferedIOBase, name: str, header: Header) -> NDArray[Any]:
    """Read one tensor."""
    kind = header.kinds[name]
    values = np.empty(kind.shape, DTYPES[kind.dtype])
    file.seek(header.starts[name])
    if file.readinto(values.data.cast("B")) != kind.nbytes:
        raise BundleError("it became shorter while it was read; fetch it again")
    return values


def _network(stored: Stored, found: Outline) -> Network:
    """Return the network that the device computes with."""
    layers = range(len(found.layers) - 1)
    weights = [stored[f"weight.{layer}"] for layer in layers]
    if found.precision == "int8":
        scales = [stored[f"scale.{layer}"] for layer in layers]
        if min(int(levels.min()) for levels in weights) < -LEVELS:
            raise BundleError(f"int8 weights must lie in -{LEVELS}..{LEVELS}; got -128")
        if not all(((scale > 0) & np.isfinite(scale)).all() for scale in scales):
            raise BundleError("int8 scales must be finite and above 0")
        with np.errstate(over="ignore"):  # `Network` refuses what became infinite
            weights = [from_levels(*each) for each in zip(weights, scales, strict=True)]
    return Network(
        tuple(weight.astype(np.float32, copy=False) for weight in weights),
        tuple(stored[f"bias.{layer}"].astype(np.float32, copy=False) for layer in layers),
    )


def _check_gain(network: Network) -> None:
    """Refuse a network whose numbers are finite, but whose sums and products may not be."""
    gain = 1.0
    for weight, bias in zip(network.weights, network.biases, strict=True):
        parts = (np.abs(weight[at : at + ROWS]) for at in range(0, len(weight), ROWS))
        sums = np.concatenate([part.sum(axis=1, dtype=np.float64) for part in parts])
        gain *= max(1.0, float((sums + np.abs(bias)).max()))
    if gain > MOST_GAIN:
        raise DataError(
            f"its weights are too large: float32 could overflow, with a gain of {gain:g} of "
            f"{MOST_GAIN:g} at most"
        )


def _named(network: Network) -> dict[str, Float32]:
    """Return the arrays that the network computes with, by name."""
    named: dict[str, Float32] = {}
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        named |= {f"weight.{layer}": weight, f"bias.{layer}": bias}
    return named


def _stored(network: Network, precision: Precision) -> dict[str, tuple[Kind, Data]]:
    """Return the tensors of a bundle's file; `_network` undoes it."""
    stored: Stored = dict(_named(network))
    if precision == "int8":
        for layer, weight in enumerate(network.weights):
            stored[f"weight.{layer}"], stored[f"scale.{layer}"] = to_levels(weight)
    kinds = _kinds(network.sizes, precision)
    return {
        name: (kind, np.ascontiguousarray(stored[name], DTYPES[kind.dtype]).data.cast("B"))
        for name, kind in kinds.items()
    }


def _digest(text: str, network: Network) -> str:
    """Return the SHA-256 of the document's text and of what the device computes with."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(_named(network).items()):
        digest.update(f"\n{name} {'x'.join(map(str, array.shape))}\n".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()
