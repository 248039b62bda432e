"""A pruned network as one small file: weights with their zeros left out, and what rebuilds it.

``docs/pruned-format.md`` describes the format for other readers and writers. Reading executes
nothing from the file, and allocates nothing for weights before every declared size has been
checked against the architecture.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from privet.errors import DataError, OptionError
from privet.files import replacing
from privet.models import Architecture, Factory, describe, from_description, load_weights
from privet.tensorfile import (
    Data,
    Kind,
    as_json,
    digest_of,
    in_one_line,
    open_document,
    parse,
    read_header,
    read_shape,
    write_tensors,
)

FORMAT = "privet-pruned"
VERSION = 1
FIELDS = {"format", "version", "architecture", "packed", "about"}
VALUES, MASK = ":values", ":mask"
OVERHEAD = 256
"""Bytes, about, that packing a tensor adds to the header."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_pruned(
    path: Path | str,
    network: nn.Module,
    architecture: Architecture,
    *,
    about: Mapping[str, Any],
    half: bool = False,
) -> str:
    """Write a pruned network to ``path`` atomically and return the file's digest.

    Equal networks give equal files, byte for byte. A tensor whose zeros take more room than a bit
    mask is stored packed: its other values, and the mask. What `load_pruned` gives back is equal
    bit for bit, except that zeros of a packed tensor lose their sign.

    Parameters
    ----------
    network
        Any network of the architecture, its layers as pruning left them.
    architecture
        What builds the network as it was before pruning.
    about
        What people should know of it; anything that JSON can hold.
    half
        Whether to store weights in float16; they are read back as rounded float32. Vectors
        (biases, normalization and its statistics) stay as they are: they are small, and outputs
        depend on them most.

    Raises
    ------
    DataError
        When weights are NaN or infinite, also when float16 makes them so; when they do not fit
        the architecture; when ``about`` is no plain JSON; when the file would exceed 4 GiB.
    OptionError
        When the architecture cannot be described, or the network's state is more than plain
        tensors.
    """
    state = _state(network, half=half)
    _blank(architecture, {name: _kind(tensor) for name, tensor in state.items()})
    stored: dict[str, Tensor] = {}
    packed = {name: list(tensor.shape) for name, tensor in state.items() if _packing_pays(tensor)}
    for name, tensor in state.items():
        if name in packed:
            stored[name + VALUES], stored[name + MASK] = _packed(tensor)
        else:
            stored[name] = tensor
    if len(stored) < len(state) + len(packed):
        raise OptionError(f"names of the network's tensors must not end in {VALUES} or {MASK}")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": describe(architecture),
        "packed": packed,
        "about": dict(about),
    }
    try:
        text = as_json(document)
        parse(text)  # refuses what only a reader would notice
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"what a file says of its network must be plain JSON: {error}") from None
    tensors = {name: (_kind(tensor), _data(tensor)) for name, tensor in stored.items()}
    digest = digest_of(text, tensors)
    with replacing(Path(path)) as temporary:
        write_tensors(temporary, {"privet": text, "digest": digest}, tensors)
    return digest


def load_pruned(path: Path | str, architecture: Architecture | None = None) -> nn.Module:
    """Read and verify the pruned network at ``path``, in evaluation mode on the CPU.

    The file is not trusted: nothing in it is executed or imported. torch's global generator
    stays as it was.

    Parameters
    ----------
    architecture
        What builds the network as it was before pruning, instead of what the file says. Needed
        for a network of your own, e.g. ``privet.models.Factory("package.module:function")``: a
        file never names code to run.

    Raises
    ------
    DataError
        When the file is missing, damaged, too large, of an unknown version, no pruned network, or
        does not fit the architecture.
    OptionError
        When ``architecture`` cannot be built.
    """
    path = Path(path)
    try:
        return _load(path, architecture)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except OptionError:
        raise
    except (SafetensorError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is no usable pruned network: {in_one_line(error)}") from None


def _load(path: Path, architecture: Architecture | None) -> nn.Module:
    metadata, stored = read_header(path)
    document = open_document(metadata, format=FORMAT, version=VERSION, fields=FIELDS)
    if not isinstance(document["packed"], dict) or not isinstance(document["about"], dict):
        raise DataError("its packed and about must be objects")
    layout = _layout(document["packed"], stored)
    network = _blank(architecture or from_description(document["architecture"]), layout.kinds)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in stored}
    content = {name: (stored[name], _data(tensor)) for name, tensor in tensors.items()}
    if digest_of(metadata["privet"], content) != metadata["digest"]:
        raise DataError("its digest does not match its content; fetch it again")
    state = {
        name: _unpacked(name, tensors, kind.shape) if name in layout.packed else tensors[name]
        for name, kind in layout.kinds.items()
    }
    network.load_state_dict(state)
    # As they are in the network: another kind of number can be infinite there.
    _check_finite(network.state_dict())
    return network.eval()


@dataclass(frozen=True)
class _Layout:
    """The network's tensors that a file holds, and which of them it holds packed."""

    kinds: dict[str, Kind]
    packed: frozenset[str]


def _layout(packed: Mapping[str, Any], stored: Mapping[str, Kind]) -> _Layout:
    """Return the layout; `DataError` unless each mask has the size that its tensor needs."""
    kinds = dict(stored)
    for name, sizes in packed.items():
        values, mask = kinds.pop(name + VALUES, None), kinds.pop(name + MASK, None)
        if values is None or mask is None or name in kinds:
            raise DataError(f"tensor {name[:40]!r} must be stored as values and mask, and so only")
        shape = read_shape(name, sizes)
        count = math.prod(shape)
        needed = Kind("U8", (-(-count // 8),))
        if mask != needed or len(values.shape) != 1 or values.shape[0] > count:
            raise DataError(f"values or mask of tensor {name[:40]!r} do not fit its shape {shape}")
        kinds[name] = Kind(values.dtype, shape)
    return _Layout(kinds, frozenset(packed))


def _blank(architecture: Architecture, kinds: Mapping[str, Kind]) -> nn.Module:
    """Return a network whose layers have the wanted sizes, and no particular weights.

    A described one is made without memory first, so that sizes are checked before they cost any.
    A network of the user's own may hold more than its state dict, and is made as it is.
    """
    own = isinstance(architecture, Factory)
    device = "cpu" if own else "meta"
    # One number each, seen through any shape.
    wanted = {
        name: torch.zeros((), dtype=DTYPES[kind.dtype], device=device).expand(kind.shape)
        for name, kind in kinds.items()
    }
    with torch.random.fork_rng(devices=[]), torch.device(device):
        network = architecture.build()
        load_weights(network, wanted)
    return network if own else network.to_empty(device="cpu")


def _state(network: nn.Module, *, half: bool) -> dict[str, Tensor]:
    """Return the network's tensors as they are stored when whole, checked."""
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        plain = isinstance(tensor, Tensor) and tensor.layout == torch.strided
        if not plain or tensor.dtype not in NAMES:
            raise OptionError(f"{name} of the network is no plain tensor of numbers")
        weight = tensor.is_floating_point() and tensor.ndim > 1
        tensor = tensor.detach().cpu().contiguous()
        state[name] = tensor.half() if half and weight else tensor
    _check_finite(state)
    return state


def _check_finite(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise DataError(f"{name} holds NaN or infinite values in {NAMES[tensor.dtype]}")


def _packing_pays(tensor: Tensor) -> bool:
    """Say whether a mask and the header's two entries take less room than the zeros do."""
    zeros = tensor.numel() - int(tensor.count_nonzero())
    return zeros * tensor.element_size() > -(-tensor.numel() // 8) + OVERHEAD


def _packed(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values that are not zero, and a bit for each place, both of shape (n,)."""
    flat = tensor.flatten()
    present = flat != 0
    return flat[present], torch.from_numpy(np.packbits(present.numpy(), bitorder="little"))


def _unpacked(name: str, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """Undo `_packed`."""
    values, mask = tensors[name + VALUES], tensors[name + MASK]
    bits = torch.from_numpy(np.unpackbits(mask.numpy(), bitorder="little")).bool()
    present = bits[: math.prod(shape)]
    if int(bits.sum()) != len(values) or int(present.sum()) != len(values):
        raise DataError(f"the mask of tensor {name[:40]!r} does not mark {len(values)} values")
    flat = torch.zeros(len(present), dtype=values.dtype)
    flat[present] = values
    return flat.view(shape)


def _kind(tensor: Tensor) -> Kind:
    return Kind(NAMES[tensor.dtype], tuple(tensor.shape))


def _data(tensor: Tensor) -> Data:
    """Return a tensor's values as bytes, without a copy."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
