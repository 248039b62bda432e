"""Adam that pays only for the features a batch holds, and still trains as dense Adam does.

Dense Adam moves every weight in every step, by momentum, whether its feature occurred or not.
`LazyAdam` leaves a feature's row of weights alone until the feature occurs again and then pays
what the skipped steps owe, all at once: see `privet.lazy_kernels` for why that is exact, and for
the deviations.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from privet.errors import OptionError
from privet.lazy_kernels import Debts, Entries, Rows, Rule, multiply, owed, settle, update
from privet.sparse import FeatureBatch, FloatRows, SparseInputLinear, feature_rows


class LazyRows:
    """Adam's state for one layer's weights, and its gradients until the next step."""

    def __init__(self, weight: Tensor, rule: Rule) -> None:
        self.weight = weight
        self._rule = rule
        self._steps = self._settled_at = 0
        self._pending: list[tuple[FeatureBatch, FloatRows]] = []
        shape = feature_rows(weight).shape
        # Zeros cost memory only once written: features that never occur stay free.
        self._mean, self._square = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._step_of = np.zeros(shape[0], np.int64)

    def multiply(self, batch: FeatureBatch) -> FloatRows:
        """Return ``batch`` times the up-to-date weights; shape (batch, out)."""
        rows, entries = self._rows(), _entries(batch)
        product = np.zeros((batch.shape[0], rows.weight.shape[1]), np.float32)
        multiply(entries, rows, self._owed(entries.features), product=product)
        return product

    def defer(self, batch: FeatureBatch, gradient: FloatRows) -> None:
        """Remember the loss's gradient by the product until the next step."""
        self._pending.append((batch, gradient))

    def step(self) -> None:
        """Update the rows of all deferred batches; do nothing when there are none."""
        if self.weight.grad is not None:
            raise OptionError(
                "LazyAdam met a dense gradient; give SparseInputLinear CSR batches (see take)"
            )
        if not self._pending:
            return
        batches, gradients = zip(*self._pending, strict=True)
        entries = _entries(sparse.vstack(batches, format="csc"))
        debts = self._owed(entries.features)
        self._steps += 1
        gradient = np.concatenate(gradients)
        update(entries, self._rows(), debts, gradient=gradient, rule=self._rule, now=self._steps)
        self.forget()

    def forget(self) -> None:
        """Drop the deferred gradients."""
        self._pending.clear()

    def flush(self) -> None:
        """Bring every row up to date."""
        if not self.settled:
            settle(self._rows(), self._owed(np.arange(self._step_of.size)), self._steps)
            self._settled_at = self._steps

    @property
    def settled(self) -> bool:
        """Whether every row is up to date."""
        return self._settled_at == self._steps

    def _rows(self) -> Rows:
        return Rows(feature_rows(self.weight), self._mean, self._square, self._step_of)

    def _owed(self, features: NDArray[np.int64]) -> Debts:
        return owed(self._step_of[features], self._steps, self._rule)


def _entries(batch: FeatureBatch) -> Entries:
    features = np.flatnonzero(np.diff(batch.indptr))
    starts = batch.indptr[np.append(features, batch.shape[1])]
    return Entries(features, starts, batch.indices, batch.data)


class LazyAdam:
    """Adam for a model that starts with `SparseInputLinear`: the same training, for less work.

    The weights of every `SparseInputLinear` in the model are updated row by row as their
    features occur; all other parameters by `torch.optim.Adam`. The loop stays the usual one:
    ``zero_grad``, ``backward``, ``step``; at the end call `finish`. Meanwhile the model's
    outputs and its state dict are exact at any time, while ``layer.weight``, read or written
    directly, is up to date only after `flush`. It has no ``.grad``: clipping passes it by.

    Parameters
    ----------
    model
        Its `SparseInputLinear` layers are on the CPU in float32. Structural pruning replaces
        parameters: call `finish` before it and make a new optimizer after.
    lr, betas, eps
        As in `torch.optim.Adam`; ``lr`` stays constant. ``lr > 0``, ``eps > 0``, and
        ``0 <= betas[0] < sqrt(betas[1]) < 1``, without which skipped updates have no bound.
    weight_decay
        Must be 0, here and in ``param_groups``: with decay every weight moves in every step,
        and no update can be skipped.

    Raises
    ------
    OptionError
        On settings out of range or weights that are not float32 on the CPU. From `step`, on a
        dense batch, on weight decay, and when the layers are no longer this optimizer's.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        rule = _checked(Rule(lr, *betas, eps))
        self.param_groups: list[dict[str, object]] = [{"weight_decay": weight_decay}]
        self._refuse_decay()
        self._lazy = [(layer, _attach(layer, rule)) for layer in _trainable(model)]
        kept = {id(rows.weight) for _, rows in self._lazy}
        others = [p for p in model.parameters() if id(p) not in kept and p.requires_grad]
        self._dense = torch.optim.Adam(others, lr, betas, eps, fused=True) if others else None

    @staticmethod
    def applies_to(model: nn.Module) -> bool:
        """Return whether ``model`` has a layer that this optimizer can train lazily."""
        return any(_is_float32_on_cpu(layer) for layer in _trainable(model))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for _, rows in self._lazy:
            rows.forget()
        if self._dense is not None:
            self._dense.zero_grad()

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self._refuse_decay()
        for layer, rows in self._lazy:
            if layer.keeper is not rows:
                raise OptionError(
                    "this LazyAdam no longer trains its model, whose weights were finished, "
                    "replaced, or taken over by another; make a new one"
                )
            rows.step()
        if self._dense is not None:
            self._dense.step()

    def flush(self) -> None:
        """Bring every weight up to date, e.g. before reading one directly."""
        for layer, _ in self._lazy:
            layer.flush()

    def finish(self) -> None:
        """Bring every weight up to date and let go of the model; this optimizer is then spent."""
        self.flush()
        for layer, rows in self._lazy:
            if layer.keeper is rows:
                layer.keeper = None

    def _refuse_decay(self) -> None:
        for group in self.param_groups:
            if group["weight_decay"] != 0:
                raise OptionError(
                    f"LazyAdam's weight_decay must be 0, since decay moves every weight in every "
                    f"step; got {group['weight_decay']}, use torch.optim.Adam for it"
                )


def _trainable(model: nn.Module) -> list[SparseInputLinear]:
    layers = [module for module in model.modules() if isinstance(module, SparseInputLinear)]
    return [layer for layer in layers if layer.weight.requires_grad]


def _is_float32_on_cpu(layer: nn.Linear) -> bool:
    return layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32


def _attach(layer: SparseInputLinear, rule: Rule) -> LazyRows:
    if not _is_float32_on_cpu(layer):
        raise OptionError(
            f"LazyAdam trains float32 weights on the CPU; got {layer.weight.dtype} on "
            f"{layer.weight.device}, use torch.optim.Adam there"
        )
    layer.flush()
    layer.keeper = rows = LazyRows(layer.weight, rule)
    return rows


def _checked(rule: Rule) -> Rule:
    if not (0 < rule.lr < math.inf and 0 < rule.eps < math.inf):
        raise OptionError(f"lr and eps must be positive; got lr={rule.lr}, eps={rule.eps}")
    if not (0 <= rule.beta1 < 1 and rule.beta1**2 < rule.beta2 < 1):
        raise OptionError(
            f"betas must satisfy 0 <= beta1 < sqrt(beta2) < 1; got {rule.beta1}, {rule.beta2}"
        )
    return rule
