"""The one training loop: every network of privet is fitted here.

A `Setup` says what to train on and how; a *defense* is a function from setup to setup. `epochs`
trains for as long as its caller keeps asking, `fit` adds early stopping on a development set.
Data stays in memory and batches are slices of it: no loader, no worker processes.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privet import query
from privet.errors import OptionError
from privet.fast import Adam, float32_products
from privet.fused import Forward, fused
from privet.lazy_adam import LazyAdam
from privet.progress import track
from privet.seeds import derive
from privet.signals import FloatArray
from privet.sparse import Inputs, take
from privet.sparse_sgd import SparseSGD


@dataclass(frozen=True)
class Pass:
    """Samples to visit once, in random order, with a weight decay of their own.

    An epoch runs through its passes one after another, with one optimizer; no batch mixes two.
    """

    indices: Tensor
    weight_decay: float


@dataclass(frozen=True)
class Step:
    """What a loss function sees of one optimization step."""

    model: nn.Module
    epoch: int
    indices: Tensor
    inputs: Tensor
    labels: Tensor
    logits: Tensor


class Optimizer(Protocol):
    """What the loop needs of an optimizer; torch's own and `LazyAdam` both satisfy it."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The settings of each group of parameters, as torch keeps them."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> object:
        """Update the parameters."""


Labelled = tuple[Inputs, Tensor]
"""Inputs and integer labels of the same samples."""
Dense = tuple[Tensor, Tensor]
"""The same with the inputs in a tensor."""
OptimizerFactory = Callable[[nn.Module], Optimizer]
Passes = Callable[[int], Sequence[Pass]]
Loss = Callable[[Step], Tensor]
Draw = Callable[[Tensor, int], list[Tensor]]
"""From the indices of a pass and the batch size to the batches, drawn by torch's generator."""


@dataclass(frozen=True)
class Setup:
    """What to train on, and how.

    Parameters
    ----------
    model
        The network, trained in place.
    inputs, labels
        The training set, in memory.
    optimizer
        Makes the optimizer once the network has its final shape (pruning replaces parameters).
    batch_size
        Samples a step, at least one.
    passes
        From the epoch (0, 1, ...) to the passes of that epoch; None is one pass over all samples
        with ``weight_decay``.
    weight_decay
        Coupled L2 penalty of the base pass.
    loss
        From a step to a scalar; cross-entropy unless a defense replaces it.
    draw
        How a pass is cut into batches: a shuffle in chunks unless a defense replaces it.
    rate
        From the epoch, with its fraction done, to a factor of the learning rate.
    dev
        Development inputs and labels, which no weight is fitted to: the nonmembers of defenses
        that train an attacker of their own.
    dense
        The network as it was before the first round, for defenses that learn from it.
    scores
        Shape (samples,), in [0, 1]: memorization scores, for the defenses that need them.
    soft_labels
        Shape (samples, classes), rows that sum to 1: what models that never met a sample make of
        it, for the defenses that need them.
    first_epoch
        Epochs that earlier rounds have spent on the same data.
    after_step
        Called after each update, e.g. to hold pruned weights at zero.
    """

    model: nn.Module
    inputs: Inputs
    labels: Tensor
    optimizer: OptimizerFactory
    batch_size: int
    passes: Passes | None = None
    weight_decay: float = 0.0
    loss: Loss = field(default=lambda step: cross_entropy(step.logits, step.labels))
    draw: Draw = field(default=lambda indices, size: shuffled(indices, size))
    rate: Callable[[float], float] | None = None
    dev: Dense | None = None
    dense: nn.Module | None = None
    scores: FloatArray | None = None
    soft_labels: Tensor | None = None
    first_epoch: int = 0
    after_step: Callable[[], None] = field(default=lambda: None)

    def epoch_passes(self, epoch: int) -> Sequence[Pass]:
        """Return the passes of one epoch."""
        if self.passes is None:
            return [Pass(torch.arange(len(self.labels)), self.weight_decay)]
        return self.passes(epoch)


@dataclass(frozen=True)
class Fitted:
    """How training went: epochs run, the epoch kept, and the development accuracies."""

    epochs: int
    kept: int
    dev_accuracies: tuple[float, ...]


def adam(learning_rate: float, *, lazy: bool = True) -> OptimizerFactory:
    """Return a factory of Adam: lazy on a sparse first layer, and as fast as the model allows.

    Without ``lazy`` every weight moves in every step, as weight decay demands.
    """

    def make(model: nn.Module) -> Optimizer:
        if lazy and LazyAdam.applies_to(model):
            return LazyAdam(model, lr=learning_rate)
        if Adam.applies_to(model):
            return Adam(model, lr=learning_rate)
        return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)

    return make


def sgd(learning_rate: float, *, lazy: bool = True) -> OptimizerFactory:
    """Return a factory of plain stochastic gradient descent: sparse on a sparse first layer.

    Without ``lazy`` every weight moves in every step, as weight decay demands.
    """

    def make(model: nn.Module) -> Optimizer:
        if lazy and SparseSGD.applies_to(model):
            return SparseSGD(model, lr=learning_rate)
        return torch.optim.SGD(model.parameters(), lr=learning_rate)

    return make


def cosine(most: int) -> Callable[[float], float]:
    """Return a factor of the learning rate that falls from 1 to 0 over ``most`` epochs."""
    return lambda epoch: 0.5 * (1 + math.cos(math.pi * min(epoch / most, 1.0)))


def shuffled(indices: Tensor, size: int) -> list[Tensor]:
    """Return the indices in random order, cut into batches; the last may be smaller."""
    return list(torch.split(indices[torch.randperm(len(indices))], size))


def epochs(setup: Setup, seed: int) -> Generator[int, None, None]:
    """Train one epoch after another, yielding the number of each finished epoch, without end.

    The caller stops asking when it has seen enough. Order and dropout come from ``seed`` and the
    epoch alone, so the same call repeats exactly on one machine.

    Raises
    ------
    OptionError
        When an epoch has no samples, or the loss is not finite.
    """
    optimizer = setup.optimizer(setup.model)
    try:
        with fused(setup.model, setup.inputs) as forward:
            for epoch in count():
                with seeded(derive(seed, "epoch", epoch)), float32_products():
                    setup.model.train()
                    batches = _batches(setup, epoch)
                    for number, batch in enumerate(batches):
                        if setup.rate is not None:
                            _set_rate(optimizer, setup.rate(epoch + number / len(batches)))
                        _step(setup, optimizer, batch, epoch=epoch, forward=forward)
                yield epoch
    finally:
        if isinstance(optimizer, LazyAdam | SparseSGD):
            optimizer.finish()


def fit(
    setup: Setup,
    seed: int,
    *,
    most: int,
    dev: Labelled | None = None,
    patience: int | None = None,
    keep: Literal["best", "last"] = "best",
    tolerance: float = 0.0,
    averaged: int = 1,
) -> Fitted:
    """Train for at most ``most`` epochs; with a development set, stop early.

    Parameters
    ----------
    dev
        Inputs and labels that decide when to stop; never a test set.
    patience
        Stop after this many epochs without a new best development accuracy.
    keep
        Which weights remain: those of the best epoch on ``dev`` (the earliest among equals), or
        of the last one.
    tolerance
        Epochs whose development accuracy is within this of the best one's count as its equals.
    averaged
        What counts of an epoch is the mean of the weights at its end and at that of the epochs
        before, so many in all, or all there were: it is judged on ``dev``, and remains. Training
        itself goes on from the epoch's own weights.

    Raises
    ------
    OptionError
        As `epochs` does, and when the weights that remain are not finite.
    """
    if most < 1 or (patience is not None and dev is None):
        raise OptionError(f"training needs an epoch, and patience a development set; got {most}")
    judged = _averages(setup.model, averaged)
    accuracies: list[float] = []
    best = 0
    # The epochs that may remain, each more accurate than those before, and their weights.
    rising: list[tuple[int, dict[str, Tensor]]] = []
    with closing(epochs(setup, seed)) as running:
        for epoch in track(running, "training, epochs", total=most):
            model = judged()
            if dev is not None:
                accuracies.append(query.accuracy(model, *dev))
                if epoch == 0 or accuracies[-1] > accuracies[best]:
                    best = epoch
                    bar = accuracies[best] - tolerance
                    rising = [one for one in rising if accuracies[one[0]] >= bar]
                    rising.append((epoch, _weights(model) if keep == "best" else {}))
            if epoch + 1 >= most or (patience is not None and epoch - best >= patience):
                break
    kept, weights = rising[0] if rising and keep == "best" else (epoch, {})
    if weights or averaged > 1:
        setup.model.load_state_dict(weights or model.state_dict())
    _check_finite(setup.model)
    return Fitted(epoch + 1, kept, tuple(accuracies))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fix torch's global generator inside the block and leave it untouched outside.

    Dropout and initialization have no generator argument; this keeps them reproducible.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _check_finite(model: nn.Module) -> None:
    """Raise `OptionError` when a weight is not finite; no loss has seen the last step's."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise OptionError(f"training left {name} not finite; lower the learning rate")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _averages(model: nn.Module, count: int) -> Callable[[], nn.Module]:
    """Return a function that gives the mean of a model as it was at the last ``count`` calls.

    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018,
    by epoch and at a constant learning rate. **Deviation**: running statistics are averaged like
    weights, instead of being taken anew; networks of attribute protection have none.
    """
    if count < 1:
        raise OptionError(f"weights are averaged over at least 1 epoch; got {count}")
    if count == 1:
        return lambda: model
    mean = deepcopy(model)
    last: deque[dict[str, Tensor]] = deque(maxlen=count)

    def average() -> nn.Module:
        last.append(_weights(model))
        # Counters, which are integers, are the newest's.
        mean.load_state_dict(
            {
                name: torch.stack([one[name] for one in last]).mean(0)
                if value.is_floating_point()
                else value
                for name, value in last[-1].items()
            }
        )
        return mean

    return average


def _batches(setup: Setup, epoch: int) -> list[Pass]:
    # Batch normalization cannot train on a single sample.
    modules = setup.model.modules()
    least = 2 if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules) else 1
    batches = [
        Pass(batch, each.weight_decay)
        for each in setup.epoch_passes(epoch)
        for batch in _large_enough(setup.draw(each.indices, setup.batch_size), least)
    ]
    if not batches:
        raise OptionError(f"epoch {epoch} has no samples to train on; widen the window")
    return batches


def _large_enough(batches: list[Tensor], least: int) -> list[Tensor]:
    """Let a last batch below ``least`` join the one before, and leave out other small ones."""
    if len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    return [batch for batch in batches if len(batch) >= least]


def _set_rate(optimizer: Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise OptionError("the learning rate cannot change with a sparse first layer")
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _step(setup: Setup, optimizer: Optimizer, batch: Pass, *, epoch: int, forward: Forward) -> None:
    for group in optimizer.param_groups:
        group["weight_decay"] = batch.weight_decay
    inputs, labels = take(setup.inputs, batch.indices), setup.labels[batch.indices]
    step = Step(setup.model, epoch, batch.indices, inputs, labels, forward(inputs))
    loss = setup.loss(step)
    if not math.isfinite(loss.item()):
        raise OptionError(
            f"the loss became {loss.item()} in epoch {epoch}; lower the learning rate"
        )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    setup.after_step()
