"""The networks of attribute protection: the defense model D and its tiers d (SP-ASPP, 4.1, 5.1.2).

What makes d's perturbations deceive attackers other than d itself is how d was trained, more than
how far it was pruned: a `Recipe` says how, and `RECIPES` names those that can be compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privet.attacks.attribute import Records, as_inputs, hold_out
from privet.data.table import Table
from privet.device import Settings
from privet.errors import DataError, OptionError
from privet.fit import Fitted, Labelled, Setup, Step, adam, fit, sgd
from privet.jobs.stages import Stages
from privet.jobs.tiers import (
    Thresholds,
    Trained,
    check_speedups,
    fresh,
    make_tier,
    train_stage,
)
from privet.models import FullyConnected
from privet.pruning.speedup import widths_at
from privet.pruning.structural import Structural
from privet.seeds import derive
from privet.signals import FloatArray


@dataclass(frozen=True)
class Recipe:
    """How a defense model is trained.

    Parameters
    ----------
    epochs, patience, tolerance
        At most so many epochs; training stops once accuracy on held-out training users has not
        improved for ``patience`` of them. The earliest epoch within ``tolerance`` standard errors
        of the best counts: chance often lets a late one win, whose changes deceive few others.
        With ``patience`` None all epochs are run, and the last one counts, as in the paper.
    optimizer, learning_rate, batch_size
        Adam, or stochastic gradient descent without momentum.
    dropout, rating_dropout
        On hidden units, and on the ratings themselves.
    label_smoothing
        Share of each label that is spread evenly over all classes, in [0, 1).
    weight_decay
        Coupled L2 penalty, at least 0. With one every weight moves in every step, and training
        costs what a dense first layer costs: bearable for tiers, not for the paper's D.
    averaged
        The mean of the weights after so many epochs in a row, at least 1, stands for the last of
        them; see `privet.fit.fit`.
    """

    epochs: int = 100
    patience: int | None = 5
    tolerance: float = 0.0
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 5e-4
    batch_size: int = 200
    dropout: float = 0.7
    rating_dropout: float = 0.0
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    averaged: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise OptionError(
                f"training takes an epoch, a batch and a learning rate above 0; got "
                f"{self.epochs}, {self.batch_size} and {self.learning_rate}"
            )
        if (self.patience is not None and self.patience < 1) or not self.tolerance >= 0:
            raise OptionError(
                f"patience is an epoch or more, tolerance at least 0; got {self.patience} and "
                f"{self.tolerance}"
            )
        for rate in (self.dropout, self.rating_dropout, self.label_smoothing):
            if not 0 <= rate < 1:
                raise OptionError(f"dropout and smoothing lie in [0, 1); got {rate}")
        if self.optimizer not in ("adam", "sgd"):
            raise OptionError(f"the optimizer must be adam or sgd; got {self.optimizer!r}")
        if not 0 <= self.weight_decay < np.inf:
            raise OptionError(f"weight decay must be at least 0; got {self.weight_decay}")
        if self.averaged < 1:
            raise OptionError(f"weights are averaged over at least 1 epoch; got {self.averaged}")

    def train(self, model: nn.Module, users: "Users", seed: int) -> Fitted:
        """Train a network of this recipe's dropout in place."""

        def loss(step: Step) -> Tensor:
            return cross_entropy(step.logits, step.labels, label_smoothing=self.label_smoothing)

        optimizer = {"adam": adam, "sgd": sgd}[self.optimizer]
        setup = Setup(
            model=model,
            inputs=users.train[0],
            labels=users.train[1],
            optimizer=optimizer(self.learning_rate, lazy=not self.weight_decay),
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            loss=loss,
        )
        if self.patience is None:
            return fit(setup, seed, most=self.epochs, averaged=self.averaged)
        error = 0.5 / np.sqrt(len(users.dev[1]))  # of an accuracy of one half, the largest there is
        return fit(
            setup,
            seed,
            most=self.epochs,
            dev=users.dev,
            patience=self.patience,
            tolerance=self.tolerance * error,
            averaged=self.averaged,
        )


JUDGED = 2000
"""Training users whose loss Taylor importance differentiates."""

PAPER = Recipe(patience=None)
"""SP-ASPP's own: 100 epochs, whatever happens. It overfits, and so deceives nobody else."""

RECIPES: Mapping[str, Recipe] = {
    "transfer": Recipe(tolerance=0.5, dropout=0.5, rating_dropout=0.3),
    "plain": Recipe(),
    "smoothed": Recipe(tolerance=0.5, dropout=0.5, rating_dropout=0.3, label_smoothing=0.3),
    "sgd": Recipe(optimizer="sgd", learning_rate=0.05, batch_size=100),
    "decayed": Recipe(tolerance=0.5, dropout=0.5, rating_dropout=0.3, weight_decay=1e-4),
    "averaged": Recipe(tolerance=0.5, dropout=0.5, rating_dropout=0.3, averaged=5),
    "paper": PAPER,
}
"""Ways to retrain a tier; the first is the default, by `benchmarks/attribute_recipes.py`."""

SEARCH = Settings(max_steps=8, mechanism="answers", temperature=0.3, leak=0.15)
"""Chosen on held-out training users: `benchmarks/attribute_recipes.py --search`."""
AS_PUBLISHED = Settings(max_steps=100)
"""Algorithm 1 as printed: 100 steps, and the search ends at the target."""


@dataclass(frozen=True)
class AttributeSettings:
    """How attribute protection is built; defaults for Att's 10,000 features and 25 classes.

    Parameters
    ----------
    hidden
        Hidden units of D (the paper: 40,000).
    speedups
        One tier each: base MACs / pruned MACs.
    base, tier
        How D is trained, and how the tiers are retrained.
    importance
        What tells the units to keep: "l1", the paper's, "taylor", or "random", a control.
    dev_share
        Share of the training users that stops training, held out.
    attacker_hidden
        Hidden units of the attack model (the paper: 30,000).
    budgets
        Expected numbers of changed entries that the evaluation asks for.
    search, rare
        How perturbations are searched for, and under which rules (policy, legal values, features
        that are never changed); it goes into the bundles. Features that a smaller share of the
        training users than ``rare`` have are never changed either, since what a network makes of
        them is hearsay.
    check_users
        Test users on which d's noise is compared with D's (Definition 3).
    thresholds
        Bounds of Definitions 1-3.
    """

    hidden: int = 4000
    speedups: tuple[float, ...] = (50.0,)
    base: Recipe = RECIPES["plain"]
    tier: Recipe = RECIPES["transfer"]
    importance: Literal["l1", "taylor", "random"] = "l1"
    dev_share: float = 0.1
    attacker_hidden: int = 4000
    budgets: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0, 5.0)
    search: Settings = SEARCH
    rare: float = 0.0008
    check_users: int = 400
    thresholds: Thresholds = Thresholds(m=0.02, r=0.11, q=0.32, n=0.1)  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.attacker_hidden < 1:
            raise OptionError(f"hidden layers need at least one unit; got {self.hidden}")
        check_speedups(self.speedups)


@dataclass(frozen=True, eq=False)
class Users:
    """The users' records and private attributes, split by what they are for.

    ``train`` fits every network, ``dev`` stops training, ``test`` is only reported on. ``prior``
    is the distribution that protected users should appear to have: the training frequencies.
    ``table`` is where they come from, ``known`` what is left of it without the test users: whom
    attackers may learn from.
    """

    table: Table
    known: Table
    train: Labelled
    dev: Labelled
    test: Labelled
    test_records: Records
    prior: FloatArray


def split_users(table: Table, settings: AttributeSettings, seed: int) -> Users:
    """Hold out a development part, and test users where the table comes with none.

    Raises
    ------
    DataError
        When the table holds images, values outside [0, 1], or too few users.
    OptionError
        When a speed-up is out of reach for the table's numbers of features and classes.
    """
    if table.images:
        raise DataError(f"{table.name} holds images; attribute protection takes tables of ratings")
    values = table.inputs.data if sparse.issparse(table.inputs) else table.inputs
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"{table.name}: attribute protection takes values in [0, 1]; scale them")
    for speedup in settings.speedups:
        widths_at(table.inputs.shape[1], (settings.hidden,), table.classes, speedup=speedup)
    held, rest = hold_out(len(table), settings.dev_share, seed, what=table.name)
    known, test, share = table, table.test, len(held)
    if test is None:
        test, rest = table.take(rest[:share]), rest[share:]
        known = table.take(np.sort(np.concatenate([held, rest])))
    dev = table.take(held)
    train = table.take(rest)
    counts = np.bincount(train.labels, minlength=table.classes)
    return Users(
        table=table,
        known=known,
        train=_labelled(train),
        dev=_labelled(dev),
        test=_labelled(test),
        test_records=test.inputs,
        prior=counts / counts.sum(),
    )


def train_base(
    users: Users, settings: AttributeSettings, *, name: str = "base", seed: int, stages: Stages
) -> Trained:
    """Train the defense model D, or another of its width under another name."""
    table = users.table
    architecture = FullyConnected(
        table.inputs.shape[1],
        (settings.hidden,),
        table.classes,
        settings.base.dropout,
        input_dropout=settings.base.rating_dropout,
        sparse_input=sparse.issparse(table.inputs),
    )
    start = partial(fresh, architecture, derive(seed, "initialize", name))
    train = partial(settings.base.train, users=users, seed=derive(seed, name))
    return train_stage(stages, name, start, train)


def train_tier(
    base: Trained,
    users: Users,
    settings: AttributeSettings,
    *,
    speedup: float,
    name: str = "",
    seed: int,
    stages: Stages,
) -> Trained:
    """Prune D to a speed-up (exact to one unit) and retrain it."""
    name = name or f"tier-{speedup:g}"
    lot = derive(seed, "prune", name) if settings.importance == "random" else None
    few = torch.arange(min(JUDGED, len(users.train[1])))
    prune = partial(
        make_tier,
        base,
        speedup,
        dropout=settings.tier.dropout,
        input_dropout=settings.tier.rating_dropout,
        pruner=Structural(importance=settings.importance, seed=lot),
        judged=(users.train[0][few.numpy()], users.train[1][few]),
    )
    train = partial(settings.tier.train, users=users, seed=derive(seed, name))
    return train_stage(stages, name, prune, train)


def search_settings(users: Users, settings: AttributeSettings) -> Settings:
    """Return how bundles search, with all the features that they never change."""
    present: Any = users.train[0] != 0
    owners = np.asarray(present.sum(0)).ravel()
    rare = np.flatnonzero(owners < settings.rare * len(users.train[1]))
    never = sorted({*settings.search.never, *rare.tolist()})
    return replace(settings.search, never=tuple(never))


def _labelled(table: Table) -> Labelled:
    return as_inputs(table.inputs), torch.from_numpy(table.labels)
