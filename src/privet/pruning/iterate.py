"""Iterative pruning: rounds of removing the least important part and fine-tuning the rest."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from privet import query
from privet.errors import OptionError
from privet.fit import Setup, fit
from privet.pruning.base import Pruner
from privet.seeds import derive
from privet.sparse import take


@dataclass(frozen=True)
class Plan:
    """How iterative pruning proceeds.

    Parameters
    ----------
    sparsities
        The fraction removed after each round, from `privet.pruning.schedule`.
    epochs
        Most epochs of fine-tuning in a round, at least one.
    patience
        A round ends after this many epochs without a better development accuracy; None: never.
    """

    sparsities: tuple[float, ...]
    epochs: int
    patience: int | None

    def __post_init__(self) -> None:
        for name, least in (("epochs", self.epochs), ("patience", self.patience)):
            if least is not None and least < 1:
                raise OptionError(f"{name} must be at least 1; got {least}")


@dataclass(frozen=True)
class Round:
    """One finished round; accuracies in [0, 1], wall time in seconds."""

    round: int
    sparsity: float
    train_accuracy: float
    dev_accuracy: float
    epochs: int
    seconds: float


def prune_rounds(
    setup: Setup,
    plan: Plan,
    *,
    pruner: Pruner,
    sizes: Mapping[str, int],
    defend: Callable[[Setup], Setup],
    seed: int,
    rewind: Mapping[str, Tensor] | None = None,
    done: tuple[Round, ...] = (),
) -> Iterator[Round]:
    """Prune and fine-tune ``setup.model`` in place, yielding each round as it finishes.

    The caller may save the model between rounds and later pass the finished rounds as ``done``:
    a round depends on the weights it starts from, the seed and its number only, so a resumed run
    gives what an unbroken one would have given.

    Parameters
    ----------
    setup
        Model, data, and how to train without a defense; its development set stops rounds early.
    sizes
        The pruner's sizes of the dense model: what the sparsities refer to.
    defend
        A defense's `start`, applied to the setup of each round.
    rewind
        Weights that the survivors return to after each pruning (Renda, Frankle & Carbin, Comparing
        Rewinding and Fine-tuning in Neural Network Pruning, ICLR 2020). None: they go on.

    Notes
    -----
    Each round continues from the last epoch of the one before, not the best, as WeMem's
    published settings do; the optimizer starts afresh each round (deviation: the public code
    carries Adam's moments over), since structural pruning replaces the parameters.
    """
    spent = sum(each.epochs for each in done)
    example = torch.zeros(1, *setup.inputs.shape[1:])
    for number in range(len(done), len(plan.sparsities)):
        started = time.perf_counter()
        if pruner.needs_gradients:
            _accumulate_gradients(setup)
        keep = pruner.allot(setup.model, sizes, plan.sparsities[number])
        hold = pruner.prune(setup.model, keep, example)
        setup.model.zero_grad()
        if rewind is not None:
            setup.model.load_state_dict(dict(rewind))
            hold()
        fitted = fit(
            defend(replace(setup, first_epoch=spent, after_step=hold)),
            derive(seed, "round", number),
            most=plan.epochs,
            dev=setup.dev,
            patience=plan.patience,
            keep="last",
        )
        spent += fitted.epochs
        yield Round(
            round=number,
            sparsity=plan.sparsities[number],
            train_accuracy=query.accuracy(setup.model, setup.inputs, setup.labels),
            dev_accuracy=fitted.dev_accuracies[-1],
            epochs=fitted.epochs,
            seconds=time.perf_counter() - started,
        )


def _accumulate_gradients(setup: Setup) -> None:
    """Leave the gradient of the training set's summed cross-entropy on the parameters."""
    setup.model.zero_grad()
    setup.model.eval()
    for rows in torch.split(torch.arange(len(setup.labels)), setup.batch_size):
        logits = setup.model(take(setup.inputs, rows))
        cross_entropy(logits, setup.labels[rows], reduction="sum").backward()  # type: ignore[no-untyped-call]
