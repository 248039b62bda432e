"""Structural pruning: whole channels go, and the network really shrinks (SP-ASPP, section 4.1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from privet.errors import OptionError
from privet.pruning.base import check_keep, keep_at
from privet.pruning.channels import NORMS, Group, find, mask, remove
from privet.pruning.trial import cuttable
from privet.seeds import generator

Importance = Literal["l1", "l2", "lamp", "taylor", "fpgm", "bn-scale", "random"]


@dataclass(frozen=True)
class Structural:
    """Remove the least important channels, group by group. Sizes count channels.

    Channels that can only go together (a layer's outputs, the scales of its normalization, the
    next layer's inputs, and all that is added to them) are one group, which has the name of one
    of its layers. What cannot be cut without breaking the network stays whole
    (`privet.pruning.trial`). The importance of a channel is summed over the layers of its
    group; within a group it is all that counts, so nothing is normalized.

    Parameters
    ----------
    importance
        "l1", the sum of absolute weights (SP-ASPP's choice); "l2", of squared weights; "lamp",
        layer-adaptive magnitude (Lee et al., ICLR 2021), which orders the channels of one group
        as "l2" does; "taylor", of absolute products of weight and gradient (Molchanov et al.,
        CVPR 2019, as `torch-pruning` reads it, but for batch normalization, which it forgets);
        "fpgm", the summed distance to the group's other channels (He et al., CVPR 2019);
        "bn-scale", batch normalization's absolute scales (Liu et al., ICCV 2017), where groups
        without one stay whole; or "random".
    seed
        A number ranks at random, from that seed: the control that says whether ranking matters
        at all. With None, "random" takes seed 0.
    """

    importance: Importance = "l1"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.importance not in get_args(Importance):
            raise OptionError(
                f"importance must be one of {', '.join(get_args(Importance))}; "
                f"got {self.importance!r}"
            )
        if self.seed is not None and self.seed < 0:
            raise OptionError(f"a seed must be at least 0; got {self.seed}")

    @property
    def needs_gradients(self) -> bool:
        """Whether the importance is a Taylor expansion of the loss."""
        return self.importance == "taylor" and self.seed is None

    def sizes(self, model: nn.Module, example: Tensor) -> dict[str, int]:
        """Return the number of channels of each group that can be cut."""
        groups = cuttable(model, example)
        if self.importance == "bn-scale" and self.seed is None:
            groups = {name: each for name, each in groups.items() if _scaled(model, each)}
        if not groups:
            raise OptionError(
                "the network has no channels that can be cut out; choose the pruner magnitude"
            )
        return {name: group.channels for name, group in groups.items()}

    def allot(self, model: nn.Module, sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
        """Return how many channels of each group remain: the same share of all."""
        return keep_at(sizes, sparsity)

    def prune(
        self, model: nn.Module, keep: Mapping[str, int], example: Tensor
    ) -> Callable[[], None]:
        """Remove all but the ``keep`` most important channels; see `privet.pruning.Pruner`.

        Groups are ranked one after the other, without the weights that left with the groups
        before. Parameters that shrink are new ones: make the optimizer afterwards.
        """
        groups = find(model, example)
        check_keep(keep, {name: group.channels for name, group in groups.items()})
        if self.needs_gradients:
            _check_gradients(model, [groups[name] for name in keep])
        cuts = []
        for name, group in groups.items():
            surplus = group.channels - keep.get(name, group.channels)
            if surplus > 0:
                weakest = self._scores(model, name, group).argsort(stable=True)[:surplus]
                gone = torch.zeros(group.channels, dtype=torch.bool)
                gone[weakest.cpu()] = True
                cuts.append((group, gone))
                mask(model, cuts[-1])
        remove(model, cuts)
        return lambda: None

    def _scores(self, model: nn.Module, name: str, group: Group) -> Tensor:
        """Return the importance of each channel, or chance; shape (channels,)."""
        if self.seed is not None or self.importance == "random":
            chance = generator(self.seed or 0, "importance", name)
            return torch.from_numpy(chance.random(group.channels))
        judged = _JUDGED.get(self.importance, (nn.Linear, _ConvNd, *NORMS))
        scores = torch.zeros(group.channels)
        for member in group.members:
            if isinstance(model.get_submodule(member.layer), judged):
                for leaf, weight, axis in member.places(model):
                    if leaf == "weight":
                        value = self._value(weight, axis, member.channels)
                        scores.index_add_(0, member.roots, value.cpu().float())
        return scores

    def _value(self, weight: Tensor, axis: int, channels: Tensor) -> Tensor:
        """Return what one weight says of its ``channels`` along ``axis``; shape as theirs."""
        rows = _rows(weight.detach(), axis, channels)
        match self.importance:
            case "l2" | "lamp":
                return rows.square().sum(1)
            case "taylor" if weight.grad is not None:
                return (rows * _rows(weight.grad, axis, channels)).abs().sum(1)
            case "fpgm":
                return torch.cdist(rows, rows).sum(1)
            case _:
                return rows.abs().sum(1)


_JUDGED: Mapping[str, tuple[type[nn.Module], ...]] = {
    "bn-scale": (_BatchNorm,),
    "fpgm": (nn.Linear, _ConvNd),
}
"""The layers whose weights an importance looks at; all by default."""


def _rows(weight: Tensor, axis: int, channels: Tensor) -> Tensor:
    """Return the entries of each of the ``channels``; shape (channels, entries)."""
    rows = weight.movedim(axis, 0)[channels.to(weight.device)]
    return rows.reshape(len(channels), -1)


def _scaled(model: nn.Module, group: Group) -> bool:
    """Return whether a group has batch normalization with scales."""
    layers = [model.get_submodule(member.layer) for member in group.members]
    return any(isinstance(layer, _BatchNorm) and layer.affine for layer in layers)


def _check_gradients(model: nn.Module, groups: list[Group]) -> None:
    """Raise `OptionError` where a weight that Taylor importance looks at has no gradient."""
    for group in groups:
        for member in group.members:
            for leaf, weight, _ in member.places(model):
                if leaf == "weight" and weight.grad is None:
                    raise OptionError(
                        f"Taylor importance needs the gradients of the training loss, and "
                        f"{member.layer} has none; run backward before pruning"
                    )
