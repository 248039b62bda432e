"""Structural pruning: whole units go, and the network really shrinks (SP-ASPP, section 4.1).

The dependency graph (DepGraph, Fang et al. 2023) of the `torch-pruning` library finds which
parameters must go together; the importance of a group is the sum of its absolute weights (L1).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn

from privet.errors import OptionError
from privet.pruning.base import prunable
from privet.seeds import generator


@dataclass(frozen=True)
class Structural:
    """Remove the least important units, layer by layer. Sizes count units.

    Parameters
    ----------
    seed
        None ranks units by the L1 norm of their group (the paper's choice). A number ranks them
        at random, from that seed: the control that says whether ranking matters at all.
    """

    seed: int | None = None

    def sizes(self, model: nn.Module) -> dict[str, int]:
        """Return the number of output units of each prunable layer."""
        return {name: layer.weight.shape[0] for name, layer in prunable(model).items()}

    def prune(
        self, model: nn.Module, keep: Mapping[str, int], example: Tensor
    ) -> Callable[[], None]:
        """Remove all but the ``keep`` most important units; see `privet.pruning.Pruner`.

        Explicit units are removed, instead of a ratio, because the library truncates ratios:
        the widths asked for are the widths that result.
        """
        graph = tp.DependencyGraph().build_dependency(model, example_inputs=example)
        for name, layer in prunable(model).items():
            surplus = layer.weight.shape[0] - keep[name]
            if surplus < 0 or keep[name] < 1:
                raise OptionError(
                    f"layer {name} has {layer.weight.shape[0]} units; cannot keep {keep[name]}"
                )
            if surplus == 0:
                continue
            remove = tp.prune_linear_out_channels
            whole = graph.get_pruning_group(layer, remove, list(range(layer.weight.shape[0])))
            weakest = self._importance(whole, name).argsort(stable=True)[:surplus]
            graph.get_pruning_group(layer, remove, weakest.tolist()).prune()
        return lambda: None

    def _importance(self, group: tp.dependency.Group, name: str) -> Tensor:
        """Return one importance a unit; the sum of its group's absolute weights, or chance."""
        if self.seed is None:
            importance: Tensor = tp.importance.MagnitudeImportance(p=1, normalizer=None)(group)
            return importance
        units = len(group[0].idxs)
        return torch.from_numpy(generator(self.seed, "importance", name).random(units))
