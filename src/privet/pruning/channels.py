"""Channels that must go together: finding them, and cutting them out of a network.

The dependency graph of the `torch-pruning` library (DepGraph, Fang et al., CVPR 2023) tells which
channels of which layers belong together: the outputs of a layer, the scales of its normalization,
the inputs of the next, and all layers that add to one residual stream. Slicing the tensors is our
own, since all groups are cut at once, in the indices of the uncut network.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from privet.errors import OptionError
from privet.models import load_weights
from privet.pruning.base import output_layer, tracing

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
"""Normalization that has a scale a channel."""


@dataclass(frozen=True, eq=False)
class Member:
    """The channels of one layer that belong to a group.

    Parameters
    ----------
    layer
        Its name.
    outputs
        Whether they are outputs, or inputs; for layers that have as many of both, outputs.
    channels
        Their numbers in the layer, shape (n,).
    roots
        The channel of the group that each of them goes with, shape (n,).
    """

    layer: str
    outputs: bool
    channels: Tensor
    roots: Tensor

    def places(self, model: nn.Module) -> Iterator[tuple[str, Tensor, int]]:
        """Yield the tensors that hold the channels: their short name, and along which axis."""
        layer = model.get_submodule(self.layer)
        if isinstance(layer, nn.Linear | _ConvNd) and not _depthwise(layer):
            transposed = isinstance(layer, _ConvNd) and layer.transposed
            yield "weight", layer.weight, int(self.outputs == transposed)
            if self.outputs and layer.bias is not None:
                yield "bias", layer.bias, 0
            return
        for name, tensor in (
            *layer.named_parameters(recurse=False),
            *layer.named_buffers(recurse=False),
        ):
            if tensor.ndim > 0 and len(tensor) > 1:  # a single entry serves all channels
                yield name, tensor, 0


@dataclass(frozen=True, eq=False)
class Group:
    """Channels 0 .. ``channels - 1`` of a network, each of which goes as a whole or stays."""

    channels: int
    members: tuple[Member, ...]


Cut: TypeAlias = tuple[Group, Tensor]
"""A group and which of its channels go: booleans of shape (channels,)."""


def find(model: nn.Module, example: Tensor) -> dict[str, Group]:
    """Return the groups by the name of one of their layers, in order of registration.

    Left out are groups that hold the output layer's classes, and those that reach anything but
    plain linear, convolutional and normalizing layers: bare parameters such as a table of
    positions, torch's attention, whose heads would break, recurrent layers, embeddings, and
    weights that several layers share.
    """
    found = _coupled(model, example)
    names: dict[Any, str] = {module: name for name, module in model.named_modules()}
    order = {name: position for position, name in enumerate(names.values())}
    tied = _tied(model)
    groups = {}
    for coupled in found:
        touched = [item for item in coupled.items if isinstance(item.dep.layer, nn.Parameter)]
        layers = [item for item in coupled.items if item.dep.layer in names]
        plain = all(_plain(item.dep.layer, tied) for item in layers)
        if plain and not touched and not any(None in item.root_idxs for item in layers):
            members = tuple(_member(item, names[item.dep.layer]) for item in layers)
            groups[members[0].layer] = Group(len(members[0].channels), members)
    return dict(sorted(groups.items(), key=lambda each: order[each[0]]))


def _coupled(model: nn.Module, example: Tensor) -> list[Any]:
    """Return the library's groups, but those of the output layer."""
    last = output_layer(model, example)
    with tracing(model):
        try:
            # A tuple, since the library would spread a tensor's rows over the arguments.
            graph = tp.DependencyGraph().build_dependency(model, (example,), verbose=False)
        except Exception as error:
            raise OptionError(
                f"DepGraph cannot follow the network ({error}); choose the pruner magnitude"
            ) from error
    found, seen = [], set()
    for layer in graph.module2node:
        if not isinstance(layer, nn.Linear | _ConvNd) or layer in seen or layer is last:
            continue
        channels = list(range(graph.get_out_channels(layer)))
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        # The library's own loop over groups ends at the first that it cannot follow.
        with suppress(Exception):
            group = graph.get_pruning_group(layer, prune, channels)
            outputs = {
                item.dep.layer
                for item in group.items
                if graph.is_out_channel_pruning_fn(item.dep.handler)
            }
            seen |= outputs
            if last not in outputs:
                found.append(group)
    return found


def mask(model: nn.Module, cut: Cut) -> None:
    """Put a group's channels that go to zero, in place: outputs, scales and inputs."""
    group, gone = cut
    for member in group.members:
        channels = member.channels[gone[member.roots]]
        for _, tensor, axis in member.places(model):
            tensor.detach().index_fill_(axis, channels.to(tensor.device), 0)


def remove(model: nn.Module, cuts: Iterable[Cut]) -> None:
    """Cut channels out of the network, which shrinks in place.

    Layers get new parameters, with what remains of their gradients.
    """
    kept: dict[int, dict[int, Tensor]] = {}
    for group, gone in cuts:
        for member in group.members:
            for _, tensor, axis in member.places(model):
                stay = torch.ones(tensor.shape[axis], dtype=torch.bool)
                stay[member.channels[gone[member.roots]]] = False
                axes = kept.setdefault(id(tensor), {})
                axes[axis] = axes[axis] & stay if axis in axes else stay

    def shrunk(tensor: Tensor, axes: Mapping[int, Tensor]) -> Tensor:
        for axis, stay in axes.items():
            tensor = tensor.index_select(axis, stay.nonzero()[:, 0].to(tensor.device))
        return tensor

    state = model.state_dict(keep_vars=True)
    gradients = {
        name: shrunk(tensor.grad, kept[id(tensor)])
        for name, tensor in state.items()
        if tensor.grad is not None and id(tensor) in kept
    }
    load_weights(
        model,
        {name: shrunk(each.detach(), kept.get(id(each), {})) for name, each in state.items()},
    )
    for name, gradient in gradients.items():
        model.get_parameter(name).grad = gradient


def _member(item: Any, name: str) -> Member:
    return Member(
        layer=name,
        outputs=item.dep.handler.__name__ == "prune_out_channels",
        channels=torch.tensor(item.idxs),
        roots=torch.tensor(item.root_idxs),
    )


def _plain(layer: nn.Module, tied: set[int]) -> bool:
    """Return whether we know how to cut a layer: no other tensors, no groups of channels."""
    own = dict(layer.named_parameters())
    if not set(own) <= {"weight", "bias"} or any(id(each) in tied for each in own.values()):
        return False
    match layer:
        case _ConvNd():
            return layer.groups == 1 or _depthwise(layer)
        case nn.LayerNorm():
            return len(layer.normalized_shape) == 1
        case nn.GroupNorm():
            return layer.num_groups == 1
        case _:
            return isinstance(layer, nn.Linear | _NormBase | nn.PReLU)


def _depthwise(layer: nn.Module) -> bool:
    if not isinstance(layer, _ConvNd):
        return False
    return layer.groups == layer.in_channels == layer.out_channels > 1


def _tied(model: nn.Module) -> set[int]:
    """Return the identities of parameters that belong to several modules."""
    owned = (id(each) for module in model.modules() for each in module.parameters(recurse=False))
    return {each for each, owners in Counter(owned).items() if owners > 1}
