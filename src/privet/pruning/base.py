"""What every pruner is, and which layers pruning may touch."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from privet.errors import OptionError


class Pruner(Protocol):
    """Removes the least important part of each layer, in place.

    A pruner has no state: the sizes of the dense model and the sparsity of the round say how
    much to keep, and what is gone already is always part of what goes.
    """

    def sizes(self, model: nn.Module) -> dict[str, int]:
        """Return the size of each prunable layer, in the pruner's own unit."""

    def prune(
        self, model: nn.Module, keep: Mapping[str, int], example: Tensor
    ) -> Callable[[], None]:
        """Prune each layer to ``keep`` (same unit as `sizes`).

        ``example`` is one batch of dense inputs, for pruners that trace the network. Returns a
        function to call after each optimizer step so that what was removed stays removed.
        """


def prunable(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the layers that pruning may touch by name: every linear layer but the last.

    The output layer stays whole, since its units are the classes.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if len(layers) < 2:
        raise OptionError("pruning needs a network with at least one hidden linear layer")
    layers.popitem()
    return layers


def keep_at(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Return how much of each layer remains at ``sparsity``, at least one."""
    return {name: max(1, round(size * (1 - sparsity))) for name, size in sizes.items()}
