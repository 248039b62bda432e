"""Putting weights into networks: fresh ones, and those of a file whose layers pruning shrank."""

import logging
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from privet.errors import DataError, OptionError

_logger = logging.getLogger(__name__)

_ONE_SIZE = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm)
"""Layers whose vectors (biases, scales, running statistics) are one entry an output unit."""


def reinitialized(network: nn.Module) -> nn.Module:
    """Return a copy with fresh weights, drawn from torch's global generator.

    Modules are reset from the leaves up, as they were when they were made: what a module does to
    the weights of those inside it has the last word.

    Buffers that no reset renews stay. Whether they are constants, such as a table of positions, or
    hold training rows cannot be seen: those of the state dict are named in the log.

    Raises
    ------
    OptionError
        Naming parameters that no ``reset_parameters`` draws or computes anew: the copy would carry
        over what they have learned. Also when a module cannot be reset.
    """
    copy = deepcopy(network)
    before = _tensors(copy)
    versions = {name: tensor._version for name, tensor in before.items()}
    for tensor in before.values():
        if tensor.is_floating_point():
            # NaN shows what a reset leaves out, part of a tensor included; integers have none.
            tensor.data.fill_(torch.nan)
    for module in _leaves_first(copy):
        _reset(module)
    kept = [
        name
        for name, now in _tensors(copy).items()
        if (
            now.isnan().any()
            if now.is_floating_point()
            else now is before.get(name) and now._version == versions[name]
        )
    ]
    learned = {name for name, _ in copy.named_parameters(remove_duplicate=False)}
    if odd := [name for name in kept if name in learned]:
        raise OptionError(
            f"cannot make fresh copies of the network: {', '.join(odd)} would keep what they "
            f"learned; give their modules a reset_parameters method that renews them, and undo "
            f"weight normalization and its kind"
        )
    if kept:
        _logger.warning(
            "fresh copies of the network keep its buffers %s; if they were filled from data, give "
            "their modules a reset_parameters method that renews them",
            ", ".join(kept),
        )
        was, now = _tensors(network), _tensors(copy)
        for name in kept:
            now[name].data.copy_(was[name])
    return copy


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters, and the buffers that a state dict holds."""
    state = network.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _leaves_first(network: nn.Module) -> dict[nn.Module, None]:
    """Return each module once, after all those inside it."""
    inside = [module for child in network.children() for module in _leaves_first(child)]
    return dict.fromkeys([*inside, network])


def _reset(module: nn.Module) -> None:
    # torch's own attention spells it with an underscore.
    names = ("reset_parameters", "_reset_parameters")
    reset = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    if not callable(reset):
        return
    try:
        reset()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise OptionError(
            f"cannot make fresh copies of the network: reset_parameters of "
            f"{type(module).__name__} raised {type(error).__name__} ({reason}); it must run "
            f"without arguments"
        ) from error


def load_weights(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state`` in place, shrinking layers to the shapes that structural pruning left.

    Linear, convolutional, normalizing, embedding and attention layers then tell their new sizes
    (``in_features``, ``out_channels``, ``groups``, ...); other modules' tensors shrink as well.
    Tensors whose shape stays are written in place. Values are not judged: NaN is loaded.

    Parameters
    ----------
    network
        The network before pruning.
    state
        Every tensor of its state dict, none larger than the network's; not trusted.

    Raises
    ------
    DataError
        When the names are not those of the network, a tensor is larger than the network's or of
        another rank or kind of number, or the tensors of one layer contradict one another. The
        network then stays as it was.
    """
    own = network.state_dict()
    if odd := sorted(set(state) ^ set(own)):
        raise DataError(f"the weights do not fit the network: {len(odd)} names, such as {odd[:6]}")
    for name, tensor in state.items():
        _check_tensor(name, own[name], tensor)
    changed = (name for name, tensor in state.items() if tensor.shape != own[name].shape)
    layers = {path: network.get_submodule(path) for path in {_parent(name) for name in changed}}
    inside: dict[str, dict[str, Tensor]] = {path: {} for path in layers}
    for name, tensor in state.items():
        if _parent(name) in inside:
            inside[_parent(name)][name.rpartition(".")[2]] = tensor
    for path, layer in layers.items():
        _check_layer(path, layer, inside[path])
    for path, layer in layers.items():
        _replace(layer, inside[path])
        _tell_sizes(layer)
    network.load_state_dict(dict(state))


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _check_tensor(name: str, own: Tensor, tensor: Tensor) -> None:
    sizes = list(zip(tensor.shape, own.shape, strict=False))
    if tensor.ndim != own.ndim or not all(new == old or 0 < new < old for new, old in sizes):
        raise DataError(
            f"the weights do not fit the network: {name} has shape {tuple(tensor.shape)}, and "
            f"pruning only shrinks {tuple(own.shape)}"
        )
    if tensor.is_floating_point() != own.is_floating_point():
        raise DataError(
            f"the weights do not fit the network: {name} holds {tensor.dtype}, not {own.dtype}"
        )


def _check_layer(path: str, layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise `DataError` unless the tensors of one layer speak of the same units."""
    if not isinstance(layer, _ONE_SIZE) or "weight" not in layer._parameters:
        return
    units = {len(tensor) for tensor in tensors.values() if tensor.ndim == 1}
    fits = True
    if isinstance(layer, nn.Linear):
        units.add(len(tensors["weight"]))
    if isinstance(layer, _ConvNd):
        outputs, _, *kernel = _conv_sizes(layer, tensors["weight"])
        units.add(outputs)
        fits = tuple(kernel) == layer.kernel_size
    if not fits or len(units) > 1:
        shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in tensors.items())
        raise DataError(f"the weights of layer {path} contradict one another: {shapes}")


def _replace(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a layer tensors of its own of the new shapes, with the old kind of number."""
    for leaf, tensor in tensors.items():
        old = getattr(layer, leaf)
        if old.shape == tensor.shape:
            continue
        new = tensor.detach().to(old.device, old.dtype, copy=True)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        setattr(layer, leaf, new)


def _tell_sizes(layer: nn.Module) -> None:
    """Make a layer's attributes say what its tensors are now."""
    match layer:
        case nn.Linear():
            layer.out_features, layer.in_features = layer.weight.shape
        case _ConvNd():
            outputs, inputs, *_ = _conv_sizes(layer, layer.weight)
            if _depthwise(layer):
                layer.groups = outputs
            layer.out_channels, layer.in_channels = outputs, inputs
        case _NormBase():
            layer.num_features = len(next(iter(layer.state_dict().values())))
        case nn.LayerNorm():
            layer.normalized_shape = tuple(layer.weight.shape)
        case nn.GroupNorm():
            layer.num_channels = len(layer.weight)
        case nn.PReLU():
            layer.num_parameters = len(layer.weight)
        case nn.Embedding():
            layer.num_embeddings, layer.embedding_dim = layer.weight.shape
        case nn.RNNBase():
            layer.input_size = layer.get_parameter("weight_ih_l0").shape[1]
        case nn.MultiheadAttention(in_proj_weight=Tensor() as weight):
            layer.embed_dim = layer.kdim = layer.vdim = weight.shape[1]
            layer.head_dim = layer.embed_dim // layer.num_heads


def _depthwise(layer: _ConvNd) -> bool:
    return layer.groups == layer.in_channels == layer.out_channels > 1


def _conv_sizes(layer: _ConvNd, weight: Tensor) -> tuple[int, ...]:
    """Return output channels, input channels, and the kernel's sides of a convolution's weight.

    Pruning takes whole groups of a depthwise convolution, and channels out of the groups of any
    other.
    """
    first, second, *kernel = weight.shape
    if _depthwise(layer):
        return first, first, *kernel
    if layer.transposed:
        return second * layer.groups, first, *kernel
    return first, second * layer.groups, *kernel
