"""Unstructured pruning: the smallest weights become and stay zero."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from privet.errors import OptionError
from privet.pruning.base import check_keep, keep_at, prunable
from privet.sparse import SparseInputLinear

Scope = Literal["layer", "global"]


@dataclass(frozen=True)
class Magnitude:
    """Remove the weights of smallest magnitude (Han et al. 2015). Sizes count weights.

    Biases, normalization, embeddings and the output layer stay whole.

    Parameters
    ----------
    scope
        With "layer", every layer loses the same share of its weights (WeMem's choice); with
        "global", all layers' weights are ranked together, and each layer keeps its largest one.
    """

    scope: Scope = "layer"

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise OptionError(
                f"scope must be one of {', '.join(get_args(Scope))}; got {self.scope!r}"
            )

    @property
    def needs_gradients(self) -> bool:
        """False."""
        return False

    def sizes(self, model: nn.Module, example: Tensor) -> dict[str, int]:
        """Return the number of entries of each prunable weight, zeros included."""
        return {name: weight.numel() for name, weight in prunable(model, example).items()}

    def allot(self, model: nn.Module, sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
        """Return how many entries of each weight remain; see `privet.pruning.Pruner`.

        Over all layers ``1 - sparsity`` of the entries remain, rounded, or one a layer if that
        is more.
        """
        if self.scope == "layer":
            return keep_at(sizes, sparsity)
        _settle(model)
        magnitudes = []
        for name in sizes:
            magnitude = model.get_parameter(name).detach().abs().flatten()
            magnitude[magnitude.argmax()] = torch.inf
            magnitudes.append(magnitude)
        layer = torch.arange(len(sizes)).repeat_interleave(torch.tensor(list(sizes.values())))
        total = max(len(sizes), round(len(layer) * (1 - sparsity)))
        kept = torch.cat(magnitudes).sort(descending=True, stable=True).indices[:total]
        counts = layer[kept.cpu()].bincount(minlength=len(sizes))
        return dict(zip(sizes, counts.tolist(), strict=True))

    def prune(
        self, model: nn.Module, keep: Mapping[str, int], example: Tensor
    ) -> Callable[[], None]:
        """Zero all but the ``keep`` largest entries of each weight; see `privet.pruning.Pruner`.

        What earlier rounds removed is zero, hence smallest, hence removed again.
        """
        _settle(model)
        weights = {name: model.get_parameter(name) for name in keep}
        check_keep(keep, {name: weight.numel() for name, weight in weights.items()})
        masks = {name: _largest(weight, keep[name]) for name, weight in weights.items()}
        lazy = _lazy(model)

        @torch.no_grad()
        def hold() -> None:
            for layer in lazy:
                layer.flush()  # updates held back would revive what is removed
            for name, weight in weights.items():
                if masks[name].stride() != weight.stride():
                    # Training may have moved the weight to another layout; a product of two
                    # layouts takes ten times as long.
                    masks[name] = torch.empty_like(weight).copy_(masks[name])
                weight.mul_(masks[name])

        hold()
        return hold


def _largest(weight: Tensor, count: int) -> Tensor:
    """Return a mask of the ``count`` entries of largest magnitude, in the weight's shape."""
    # A stable sort decides ties by position, so equal magnitudes prune repeatably.
    order = weight.detach().abs().flatten().sort(descending=True, stable=True).indices
    # Not boolean: a product of two types takes several times as long.
    mask = torch.zeros(weight.numel(), dtype=weight.dtype, device=weight.device)
    mask[order[:count]] = 1
    return mask.view(weight.shape)


def _lazy(model: nn.Module) -> list[SparseInputLinear]:
    return [layer for layer in model.modules() if isinstance(layer, SparseInputLinear)]


def _settle(model: nn.Module) -> None:
    """Bring weights up to date whose optimizer holds updates back."""
    for layer in _lazy(model):
        layer.flush()
