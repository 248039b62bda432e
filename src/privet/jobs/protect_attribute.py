"""Building attribute protection: the first SP-ASPP from training users to checked bundles.

A defense model D learns to guess the private attribute, is pruned to tiers d and retrained; each
tier goes out as a bundle. An attack model that none of them has seen then tries to guess the
attribute of protected test users.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from privet import query
from privet.attacks.attribute import NETWORK, NeuralNetwork, Records, as_inputs, guesses, hold_out
from privet.data.table import Table
from privet.device import Bundle, Settings
from privet.errors import DataError, OptionError
from privet.fit import Fitted, Labelled, fit
from privet.jobs.attribute_evaluation import Outcome, attack_protected
from privet.jobs.stages import RunFolder
from privet.jobs.tiers import (
    Thresholds,
    Trained,
    check_all,
    check_speedups,
    check_tier,
    fresh,
    make_tier,
    mean_accuracy,
    size,
    to_device,
    train_stage,
    write_tier,
)
from privet.pruning.speedup import widths_at
from privet.seeds import derive
from privet.signals import FloatArray


@dataclass(frozen=True)
class AttributeSettings:
    """How attribute protection is built; defaults for Att's 10,000 features and 25 classes.

    Parameters
    ----------
    hidden
        Hidden units of D (the paper: 40,000).
    speedups
        One tier each: base MACs / pruned MACs.
    epochs, patience, dev_share
        Training stops when accuracy on this share of the training users, held out, has not
        improved for ``patience`` epochs. The paper's fixed 100 epochs overfit.
    batch_size, learning_rate, dropout
        Of D and of the attack model (the paper's values).
    tier_dropout, rating_dropout
        Of the tiers' retraining: on hidden units, of which a small tier has none to spare, and on
        the ratings themselves.
    attacker_hidden
        Hidden units of the attack model (the paper: 30,000).
    budgets
        Expected numbers of changed entries that the evaluation asks for.
    max_steps
        Most changes tried for one user and target. The paper tries 100; what takes more than
        these is hardly ever chosen, and eats into the budget when it is.
    check_users
        Test users on which d's noise is compared with D's (Definition 3).
    thresholds
        Bounds of Definitions 1-3.
    """

    hidden: int = 4000
    speedups: tuple[float, ...] = (50.0,)
    epochs: int = 100
    patience: int = 5
    dev_share: float = 0.1
    batch_size: int = 200
    learning_rate: float = 5e-4
    dropout: float = 0.7
    tier_dropout: float = 0.0
    rating_dropout: float = 0.3
    attacker_hidden: int = 4000
    budgets: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0, 5.0)
    max_steps: int = 16
    check_users: int = 400
    thresholds: Thresholds = Thresholds(m=0.02, r=0.11, q=0.32, n=0.1)  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.attacker_hidden < 1:
            raise OptionError(f"hidden layers need at least one unit; got {self.hidden}")
        check_speedups(self.speedups)

    @property
    def network(self) -> NeuralNetwork:
        """The network that D and the attack model are, of D's width, and how it is trained."""
        return replace(
            NETWORK,
            hidden=self.hidden,
            dropout=self.dropout,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            epochs=self.epochs,
            patience=self.patience,
            dev_share=self.dev_share,
        )


@dataclass(frozen=True, eq=False)
class Users:
    """The users' records and private attributes, split by what they are for.

    ``train`` fits every network, ``dev`` stops training, ``test`` is only reported on. ``prior``
    is the distribution that protected users should appear to have: the training frequencies.
    ``table`` is where they come from.
    """

    table: Table
    train: Labelled
    dev: Labelled
    test: Labelled
    test_records: Records
    prior: FloatArray


def build_attribute(
    users: Users, settings: AttributeSettings, *, seed: int, run: RunFolder
) -> dict[str, Any]:
    """Train D, make its tiers, attack them, and write one bundle a tier into the run's folder.

    Returns the JSON of `privet protect build`. Finished networks are kept in the folder, so an
    interrupted build resumes.
    """
    table = users.table

    def train(name: str, untrained: Callable[[], Trained]) -> Trained:
        fit_it = partial(_fit, users=users, settings=settings, seed=derive(seed, name))
        return train_stage(run, name, untrained, fit_it)

    def new(name: str, hidden: int) -> Callable[[], Trained]:
        network = replace(settings.network, hidden=hidden)
        architecture = network.architecture(table.inputs, table.classes)
        return partial(fresh, architecture, derive(seed, "initialize", name))

    base = train("base", new("base", settings.hidden))

    def tier(speedup: float) -> Trained:
        return make_tier(
            base,
            speedup,
            dropout=settings.tier_dropout,
            input_dropout=settings.rating_dropout,
        )

    tiers = {s: train(f"tier-{s:g}", partial(tier, s)) for s in settings.speedups}
    attacker = train("attacker", new("attacker", settings.attacker_hidden))
    return _report(users, settings=settings, networks=(base, tiers, attacker), run=run)


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
    test, share = table.test, len(held)
    if test is None:
        test, rest = table.take(rest[:share]), rest[share:]
    dev = table.take(held)
    train = table.take(rest)
    counts = np.bincount(train.labels, minlength=table.classes)
    return Users(
        table=table,
        train=_labelled(train),
        dev=_labelled(dev),
        test=_labelled(test),
        test_records=test.inputs,
        prior=counts / counts.sum(),
    )


def _fit(model: nn.Module, *, users: Users, settings: AttributeSettings, seed: int) -> Fitted:
    setup = settings.network.setup(model, users.train)
    return fit(setup, seed, most=settings.epochs, dev=users.dev, patience=settings.patience)


def _report(
    users: Users,
    *,
    settings: AttributeSettings,
    networks: tuple[Trained, Mapping[float, Trained], Trained],
    run: RunFolder,
) -> dict[str, Any]:
    """Attack every tier, write its bundle, and hold the figures against Definitions 1-3."""
    base, trained, attack_network = networks
    attacker, name = attack_network.model, users.table.name
    few = min(settings.check_users, len(users.test[1]))
    on_base = _attack(base, attacker, users=users, settings=settings, first=few)
    before = on_base.by_budget(users.prior, settings.budgets)
    base_figures = _figures(base, users)
    tiers = []
    for speedup, tier in trained.items():
        outcome = _attack(tier, attacker, users=users, settings=settings)
        by_budget = outcome.by_budget(users.prior, settings.budgets)
        same_users = outcome.first(few).by_budget(users.prior, settings.budgets)
        figures = _figures(tier, users)
        measured = Thresholds(
            m=abs(figures["accuracy"] - base_figures["accuracy"]),
            r=figures["parameters"] / base_figures["parameters"],
            q=mean_accuracy(by_budget),
            n=abs(mean_accuracy(same_users) - mean_accuracy(before)),
        )
        report = {
            "asked_speedup": speedup,
            "reached_speedup": base_figures["macs"] / figures["macs"],
            **figures,
            "attack_accuracy": mean_accuracy(by_budget),
            "attack_accuracy_by_budget": by_budget,
            "reached_targets": float(outcome.reached.mean()),
            "definitions": check_tier(settings.thresholds, measured),
        }
        bundle = _bundle(tier, users=users, settings=settings, report=report)
        tiers.append({**report, **write_tier(bundle, run.path, f"{name}-x{speedup:g}")})
    guessed = guesses(attacker, users.test_records)
    labels = users.test[1].numpy()
    return {
        "dataset": name,
        "kind": "attribute",
        "base": base_figures,
        "base_attack_accuracy_by_budget": before,
        "base_attacked_users": few,
        "attacked_users": len(labels),
        "tiers": tiers,
        "definitions": check_all(settings.thresholds, tiers),
        "attack": {
            "name": f"fully connected, {settings.attacker_hidden} hidden units, Adam",
            "unprotected_accuracy": float((guessed == labels).mean()),
            "majority_accuracy": float((labels == users.prior.argmax()).mean()),
        },
    }


def _attack(
    defense: Trained,
    attacker: nn.Module,
    *,
    users: Users,
    settings: AttributeSettings,
    first: int | None = None,
) -> Outcome:
    """Attack the first test users, or all, as protected by one defense model."""
    return attack_protected(
        to_device(defense.model),
        attacker,
        users.test_records[:first],
        users.test[1].numpy()[:first],
        max_steps=settings.max_steps,
    )


def _bundle(
    tier: Trained, *, users: Users, settings: AttributeSettings, report: dict[str, Any]
) -> Bundle:
    return Bundle(
        kind="attribute",
        network=to_device(tier.model),
        prior=users.prior,
        settings=Settings(max_steps=settings.max_steps),
        feature_names=users.table.feature_names,
        class_names=users.table.class_names,
        card={"dataset": users.table.name, **report},
    )


def _figures(network: Trained, users: Users) -> dict[str, Any]:
    return {
        "accuracy": query.accuracy(network.model, *users.test),
        "dev_accuracy": query.accuracy(network.model, *users.dev),
        **size(network.architecture),
    }


def _labelled(table: Table) -> Labelled:
    return as_inputs(table.inputs), torch.from_numpy(table.labels)
