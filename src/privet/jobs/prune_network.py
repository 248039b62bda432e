"""The one way a network is pruned: train, score memorization, prune in rounds under a defense.

Targets and an auditor's shadow models go through the same function, so that an adaptive attacker
repeats exactly what the defender did.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from privet import defenses, query
from privet.errors import OptionError
from privet.fit import Dense, Setup, adam, fit, seeded
from privet.jobs.stages import Forgetful, Stages
from privet.memorization import fold_scores
from privet.models import load_weights
from privet.progress import track
from privet.pruning import PRUNERS
from privet.pruning.iterate import Plan, Round, prune_rounds
from privet.pruning.schedule import geometric
from privet.seeds import derive
from privet.signals import FloatArray


@dataclass(frozen=True)
class PruneSettings:
    """How a network is trained and pruned; the defaults are WeMem's for Location.

    Parameters
    ----------
    defense, defense_options
        A row of `privet.defenses.DEFENSES`, and changes to its defaults.
    pruner
        A row of `privet.pruning.PRUNERS`.
    sparsity
        Fraction removed in the end, in [0, 1); see `privet.pruning.schedule`.
    rounds, epochs, patience
        Rounds of pruning, most epochs of each, and epochs without progress that end one early.
    dense_epochs
        Most epochs of training before pruning starts; 0 takes the network as it is.
    batch_size, learning_rate, weight_decay
        Of Adam, in training and fine-tuning.
    folds, fold_epochs
        Folds of the memorization scores, and epochs that each fold's model trains.
    """

    defense: str = "none"
    defense_options: Mapping[str, Any] = field(default_factory=dict)
    pruner: str = "magnitude"
    sparsity: float = 0.6
    rounds: int = 5
    epochs: int = 21
    patience: int = 5
    dense_epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    folds: int = 5
    fold_epochs: int = 50

    def __post_init__(self) -> None:
        _ = self.plan
        defenses.choose(self.defense, self.defense_options)
        if self.pruner not in PRUNERS:
            raise OptionError(f"unknown pruner {self.pruner!r}; choose from {', '.join(PRUNERS)}")
        if self.batch_size < 1 or not self.learning_rate > 0 or self.dense_epochs < 0:
            raise OptionError(
                f"batch_size and learning_rate must be positive, dense_epochs at least 0; got "
                f"{self.batch_size}, {self.learning_rate} and {self.dense_epochs}"
            )

    @property
    def plan(self) -> Plan:
        """The rounds."""
        return Plan(tuple(geometric(self.sparsity, self.rounds)), self.epochs, self.patience)


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned network and what it was pruned from.

    Parameters
    ----------
    model
        The pruned network.
    dense
        The network as it was before the first round.
    rounds
        How each round went.
    scores
        Memorization scores of the training set, where the defense needed them.
    """

    model: nn.Module
    dense: nn.Module
    rounds: tuple[Round, ...]
    scores: FloatArray | None


def prune_network(
    build: Callable[[], nn.Module],
    train: Dense,
    dev: Dense,
    *,
    settings: PruneSettings,
    seed: int,
    stages: Stages | None = None,
    fresh: Callable[[], nn.Module] | None = None,
) -> Pruned:
    """Train a network from ``build``, then prune it in rounds under the settings' defense.

    Parameters
    ----------
    build
        Makes the dense network; called inside a seeded block.
    train, dev
        Inputs and labels to train on, and to stop early by.
    stages
        Where finished stages are kept and taken up again; in memory only by default.
    fresh
        Makes an untrained network for the memorization scores, where ``build`` gives a trained
        one; ``build`` by default.
    """
    stages = stages or Forgetful()
    defense = defenses.choose(settings.defense, settings.defense_options)
    setup = _dense(build, train, dev=dev, settings=settings, seed=seed, stages=stages)
    unpruned = deepcopy(setup.model)
    pruner = PRUNERS[settings.pruner]
    sizes = pruner.sizes(setup.model)
    if defense.needs_scores:
        scores = _scores(setup, fresh or build, settings=settings, seed=seed, stages=stages)
        setup = replace(setup, scores=scores)
    done: list[Round] = []
    while (finished := stages.recall(f"round-{len(done)}")) is not None:
        load_weights(setup.model, finished[1])
        done.append(Round(**finished[0]))
    upcoming = prune_rounds(
        setup,
        settings.plan,
        pruner=pruner,
        sizes=sizes,
        defend=defense.start,
        dev=dev,
        seed=seed,
        done=tuple(done),
    )
    for each in track(upcoming, "pruning rounds", total=settings.rounds - len(done)):
        stages.keep(f"round-{each.round}", asdict(each), setup.model.state_dict())
        done.append(each)
    return Pruned(setup.model, unpruned, tuple(done), setup.scores)


def _dense(
    build: Callable[[], nn.Module],
    train: Dense,
    *,
    dev: Dense,
    settings: PruneSettings,
    seed: int,
    stages: Stages,
) -> Setup:
    """Return the setup around the trained dense network."""
    with seeded(derive(seed, "initialize")):
        model = build()
    setup = Setup(
        model=model,
        inputs=train[0],
        labels=train[1],
        optimizer=adam(settings.learning_rate),
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
    )
    if (finished := stages.recall("dense")) is not None:
        load_weights(model, finished[1])
        return setup
    if settings.dense_epochs:
        fit(
            setup,
            derive(seed, "dense"),
            most=settings.dense_epochs,
            dev=dev,
            patience=settings.patience,
        )
    stages.keep("dense", {"dev_accuracy": query.accuracy(model, *dev)}, model.state_dict())
    return setup


def _scores(
    setup: Setup,
    build: Callable[[], nn.Module],
    *,
    settings: PruneSettings,
    seed: int,
    stages: Stages,
) -> FloatArray:
    """Return the memorization scores of the training set, computed once a run."""
    if (finished := stages.recall("scores")) is not None:
        return np.asarray(finished[1]["scores"])
    scores = fold_scores(
        setup,
        derive(seed, "scores"),
        build=build,
        epochs=settings.fold_epochs,
        folds=settings.folds,
    )
    stages.keep("scores", {"folds": settings.folds}, {"scores": torch.from_numpy(scores)})
    return scores
