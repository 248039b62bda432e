"""One trial of a search: prune on part of the data, then see what is kept and what leaks.

Nothing here is handed a test row: a trial has the training and the development samples, and
judges on some of those.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from privet import defenses, metrics, query
from privet.attacks.threshold import (
    confidence,
    negative_entropy,
    negative_modified_entropy,
    top_confidence,
)
from privet.defenses import Taught
from privet.errors import DataError
from privet.fit import Dense
from privet.jobs.inputs import joined, rows_of
from privet.jobs.prune_network import prune_network
from privet.jobs.settings import PruneSettings
from privet.seeds import derive, generator
from privet.signals import FloatArray, IntArray, Metric, Signals

PARTS = 5
"""A re-split judges on one part in so many; no two of a search share a judged sample."""

Build = Callable[[], nn.Module]
Stage = tuple[dict[str, Any], dict[str, Tensor]]


def correct(signals: Signals) -> FloatArray:
    """Return 1 where the predicted class is the true one, else 0; shape (models, samples)."""
    return np.asarray(signals.logits.argmax(axis=2) == signals.labels, dtype=float)


RANKINGS: Mapping[str, Metric] = {
    "conf": confidence,
    "entr": negative_entropy,
    "mentr": negative_modified_entropy,
    "hconf": top_confidence,
    "gap": correct,
}
"""Attacks that rank samples without a shadow model; higher means more likely a member."""


@dataclass(frozen=True)
class Resplit:
    """Rows of the joined training and development samples: to train on, stop by, and judge on."""

    train: IntArray
    stop: IntArray
    judged: IntArray


@dataclass(frozen=True)
class Outcome:
    """What one re-split says of a candidate.

    Parameters
    ----------
    dev_accuracy
        On the judged samples, in [0, 1].
    leakage
        The highest AUC of `RANKINGS`, trained on against judged samples, in [0.5, 1].
    attack
        Which of them that was.
    """

    dev_accuracy: float
    leakage: float
    attack: str


@dataclass(frozen=True)
class Network:
    """A network to prune: as it comes, with fresh weights, and whether it comes trained."""

    build: Build
    fresh: Build
    trained: bool


def resplits(
    train: int, dev: int, *, trained: bool, repeats: int, seed: int
) -> tuple[Resplit, ...]:
    """Divide the training and development samples anew, ``repeats`` times.

    A development set is small, and a dozen wrong answers would decide a search. So both sets are
    joined, in a random order that all trials share: re-split r judges on the r-th fifth of it and
    stops early by as many others as there were development samples, at most a tenth of all. The
    rest trains: 70 to 80 % of the samples, so all trials know a little less than the final run.
    Early stopping and judging never share a sample, or a network would be judged by what chose
    it. Defenses that train against development samples meet those that stop, not the judged.

    A network that comes ``trained`` has met the training samples, so these stay its members; the
    development set is halved, and the halves swap roles in every other re-split.

    Parameters
    ----------
    train, dev
        How many samples there are; the rows of the joined set count the training samples first.
    repeats
        At least one, and for a network that trains here at most `PARTS`.

    Raises
    ------
    DataError
        When there are too few samples for every part to have one.
    """
    if trained:
        if dev < 2:
            raise DataError(f"tuning takes at least 2 development samples to divide; got {dev}")
        return tuple(_halves(train, dev, number=r, seed=seed) for r in range(repeats))
    samples = train + dev
    part, stop = samples // PARTS, min(dev, samples // (2 * PARTS))
    if stop < 1:
        raise DataError(
            f"tuning divides {train} training and {dev} development samples, which are too few; "
            f"it takes {2 * PARTS}, one of them for development"
        )
    order = generator(seed, "tuning").permutation(samples)
    turned = [np.roll(order, -part * r) for r in range(repeats)]
    return tuple(Resplit(o[part + stop :], o[part : part + stop], o[:part]) for o in turned)


def _halves(train: int, dev: int, *, number: int, seed: int) -> Resplit:
    order = generator(seed, "tuning", number // 2).permutation(dev) + train
    halves = np.array_split(order, 2)
    return Resplit(np.arange(train), halves[number % 2], halves[1 - number % 2])


@dataclass(frozen=True, eq=False)
class Bench:
    """Where candidates are tried: all on the same samples, from the same weights.

    Parameters
    ----------
    network
        What to prune.
    samples
        The training and the development samples, joined.
    splits
        How each re-split divides them.
    seed
        Fixes weights and the order of the data. All candidates share them, so that chance moves
        their figures alike and comparisons are sharper than the figures.
    """

    network: Network
    samples: Dense
    splits: tuple[Resplit, ...]
    seed: int
    shared: dict[Any, Stage] = field(default_factory=dict)

    def measure(self, settings: PruneSettings, number: int) -> Outcome:
        """Prune on one re-split under some settings; return how that went.

        What leaks is asked of the network itself. A defense that changes only what a service
        shows of its answers (HAMP's) earns nothing by that: whoever has the weights asks them.
        """
        split = self.splits[number]
        train, judged = rows_of(self.samples, split.train), rows_of(self.samples, split.judged)
        pruned = prune_network(
            self.network.build,
            train,
            rows_of(self.samples, split.stop),
            settings=settings,
            seed=derive(self.seed, "re-split", number),
            stages=_Shared(self.shared, settings, number),
            fresh=self.network.fresh,
        )
        leakage, attack = strongest(pruned.model, train, judged)
        return Outcome(query.accuracy(pruned.model, *judged), leakage, attack)


def strongest(model: nn.Module, members: Dense, nonmembers: Dense) -> tuple[float, str]:
    """Return the highest AUC of `RANKINGS` and the attack that reaches it.

    Guessing is always possible, so it is at least 0.5. Scores are never turned around: a model
    that is *less* sure of its members counts as one that leaks nothing.
    """
    inputs, labels = joined(members, nonmembers)
    signals = query.signals([model], inputs, labels.numpy())
    truth = np.arange(len(labels)) < len(members[1])
    found = {name: metrics.auc(score(signals)[0], truth) for name, score in RANKINGS.items()}
    attack = max(found, key=lambda name: found[name])
    return max(0.5, found[attack]), attack


TRAINING = (
    "dense_epochs",
    "patience",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "anneal",
    "scores",
    "score_models",
    "score_epochs",
)
"""The settings that work before the first round depends on."""


@dataclass(frozen=True, eq=False)
class _Shared:
    """Stages of one candidate that other candidates have in common: done once, kept in memory.

    The dense network, the models of memorization scores and the teachers depend on `TRAINING`,
    the re-split, and hardly on the defense.
    """

    kept: dict[Any, Stage]
    settings: PruneSettings
    number: int

    def recall(self, name: str) -> Stage | None:
        """Return a finished stage that another candidate or this one kept."""
        return self.kept.get(self._key(name))

    def keep(self, name: str, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Keep a stage that others may have in common."""
        if (key := self._key(name)) is not None:
            # Training goes on in the very tensors that it hands over here.
            copies = {part: torch.as_tensor(value).clone() for part, value in tensors.items()}
            self.kept[key] = dict(record), copies

    def _key(self, name: str) -> tuple[Any, ...] | None:
        settings = self.settings
        defense = defenses.choose(settings.defense, settings.defense_options)
        common = (self.number, name, *(getattr(settings, each) for each in TRAINING))
        if name == "dense":
            return None if defense.whole else common
        if name.startswith("teacher-") and isinstance(defense, Taught):
            return (*common, defense.teacher, defense.folds)
        return common if name.startswith("score-model-") else None
