"""Stochastic gradient descent that pays only for the features a batch holds.

Without momentum or decay a weight moves only in a step in which its feature occurs. So unlike
Adam (`privet.lazy_adam`) nothing is ever owed: leaving the other rows alone *is* the dense step,
to the rounding of sums.
"""

import math

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from privet.errors import OptionError
from privet.sparse import FeatureBatch, FloatRows, SparseInputLinear, feature_rows


class Rows:
    """One layer's weights, and its gradients until the next step (a `privet.sparse.RowKeeper`)."""

    settled = True

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._pending: list[tuple[FeatureBatch, FloatRows]] = []

    def multiply(self, batch: FeatureBatch) -> FloatRows:
        """Return ``batch`` times the weights; shape (batch, out)."""
        return np.asarray(batch @ feature_rows(self.weight))

    def defer(self, batch: FeatureBatch, gradient: FloatRows) -> None:
        """Remember the loss's gradient by the product until the next step."""
        self._pending.append((batch, gradient))

    def step(self, rate: float) -> None:
        """Descend along all deferred gradients."""
        rows = feature_rows(self.weight)
        for batch, gradient in self._pending:
            entries = batch.indptr, batch.indices, batch.data
            _descend(rows, entries, gradient, np.float32(rate))  # a double would halve its speed
        self.forget()

    def forget(self) -> None:
        """Drop the deferred gradients."""
        self._pending.clear()

    def flush(self) -> None:
        """Do nothing: no row is ever behind."""


class SparseSGD(torch.optim.SGD):
    """`torch.optim.SGD` without momentum for a model with `SparseInputLinear`, for less work.

    CSR batches move only the weights of the features they hold, dense batches move all. Other
    parameters are torch's own affair. ``lr`` may change in ``param_groups`` between steps. At the
    end of training call `finish`; after it, or once pruning replaces a weight, `step` refuses.

    Parameters
    ----------
    model
        One that `applies_to` admits.
    lr
        Learning rate, above 0.

    Raises
    ------
    OptionError
        On another learning rate. From `step`, on weight decay, which moves every weight in every
        step, and when the layers are no longer this optimizer's.
    """

    def __init__(self, model: nn.Module, *, lr: float) -> None:
        if not 0 < lr < math.inf:
            raise OptionError(f"lr must be positive; got {lr}")
        super().__init__(model.parameters(), lr)
        self._rows = [(layer, _attach(layer)) for layer in _layers(model)]

    @staticmethod
    def applies_to(model: nn.Module) -> bool:
        """Return whether ``model`` has a sparse first layer in float32 on the CPU to train."""
        return bool(_layers(model))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for _, rows in self._rows:
            rows.forget()
        super().zero_grad(set_to_none)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        (group,) = self.param_groups
        if group["weight_decay"] != 0:
            raise OptionError(
                f"SparseSGD's weight_decay must be 0, since decay moves every weight in every "
                f"step; got {group['weight_decay']}, use torch.optim.SGD for it"
            )
        for layer, rows in self._rows:
            if layer.keeper is not rows:
                raise OptionError(
                    "this SparseSGD no longer trains its model, whose weights were finished, "
                    "replaced, or taken over by another; make a new one"
                )
            rows.step(group["lr"])
        super().step()

    def finish(self) -> None:
        """Let go of the model; this optimizer is then spent."""
        for layer, rows in self._rows:
            if layer.keeper is rows:
                layer.keeper = None


def _layers(model: nn.Module) -> list[SparseInputLinear]:
    return [
        module
        for module in model.modules()
        if isinstance(module, SparseInputLinear)
        and module.weight.requires_grad
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    ]


def _attach(layer: SparseInputLinear) -> Rows:
    layer.flush()
    layer.keeper = rows = Rows(layer.weight)
    return rows


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _descend(
    rows: FloatRows,
    batch: tuple[NDArray[np.integer], NDArray[np.integer], FloatRows],
    gradient: FloatRows,
    rate: np.float32,
) -> None:
    """Subtract ``rate * batch.T @ gradient`` from the rows of the features that occur."""
    starts, samples, values = batch
    for feature in range(starts.size - 1):
        weight = rows[feature]
        for entry in range(starts[feature], starts[feature + 1]):
            slope, pace = gradient[samples[entry]], rate * values[entry]
            for j in range(weight.size):
                weight[j] -= pace * slope[j]
