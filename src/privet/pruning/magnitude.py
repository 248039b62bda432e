"""Unstructured pruning: the smallest weights of each layer become and stay zero."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privet.pruning.base import prunable
from privet.sparse import SparseInputLinear


@dataclass(frozen=True)
class Magnitude:
    """Remove the weights of smallest magnitude, layer by layer (Han et al. 2015; WeMem).

    Sizes count weights. Biases and the output layer stay whole.
    """

    def sizes(self, model: nn.Module) -> dict[str, int]:
        """Return the number of weights of each prunable layer, zeros included."""
        return {name: layer.weight.numel() for name, layer in prunable(model).items()}

    def prune(
        self, model: nn.Module, keep: Mapping[str, int], example: Tensor
    ) -> Callable[[], None]:
        """Zero all but the ``keep`` largest weights of each layer; see `privet.pruning.Pruner`.

        What earlier rounds removed is zero, hence smallest, hence removed again.
        """
        masks: list[tuple[nn.Linear, Tensor]] = []
        for name, layer in prunable(model).items():
            weight = layer.weight
            # A stable sort decides ties by position, so equal magnitudes prune repeatably.
            order = weight.detach().abs().flatten().sort(descending=True, stable=True).indices
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[order[: keep[name]]] = True
            masks.append((layer, mask.view_as(weight)))

        @torch.no_grad()
        def hold() -> None:
            for layer, mask in masks:
                if isinstance(layer, SparseInputLinear):
                    layer.flush()  # updates held back would revive what is removed
                layer.weight.mul_(mask)

        hold()
        return hold
