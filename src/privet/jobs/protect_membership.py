"""Building membership protection: the second SP-ASPP from a data set to checked bundles.

A target classifier is trained on members; a defense model D learns to tell members from
nonmembers by their confidences, is pruned to tiers d and retrained. An attacker with a shadow
classifier of its own then judges the protected confidences.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from privet import query
from privet.data.splits import membership_split
from privet.data.table import Table
from privet.device import Bundle
from privet.errors import DataError
from privet.fit import Dense, Fitted, Setup, Step, fit, sgd
from privet.jobs.inputs import dense
from privet.jobs.membership_evaluation import Observed, attacked, found_share
from privet.jobs.stages import RunFolder, Stages
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
from privet.metrics import auc
from privet.models import FullyConnected
from privet.pruning.speedup import widths_at
from privet.pruning.structural import Structural
from privet.seeds import derive, generator
from privet.signals import IntArray


@dataclass(frozen=True)
class MembershipSettings:
    """How membership protection is built; the paper's settings (MemGuard's, section 5.1.3).

    Parameters
    ----------
    target_hidden, target_epochs
        The classifier under protection; the learning rate falls tenfold after three quarters.
    defense_hidden, defense_epochs, tier_epochs
        The defense model D, and retraining of the pruned tiers.
    attacker_hidden, attacker_epochs
        The attack model.
    speedups
        One tier each: base MACs / pruned MACs.
    batch_size, learning_rate
        Of SGD, for every network.
    held_out
        Share of D's data that its accuracy is measured on.
    budgets
        Expected L1 distortions that the evaluation asks for.
    least_found, attempts
        A tier is released only when noise is found for this share of held-out vectors. One that
        fails is pruned again to other units and retrained, this often in all.
    thresholds
        Bounds of Definitions 1-3.
    """

    target_hidden: tuple[int, ...] = (1024, 512, 256, 128)
    target_epochs: int = 200
    defense_hidden: tuple[int, ...] = (256, 128, 64)
    defense_epochs: int = 400
    tier_epochs: int = 100
    attacker_hidden: tuple[int, ...] = (512, 256, 128)
    attacker_epochs: int = 400
    speedups: tuple[float, ...] = (20.0, 40.0, 60.0)
    batch_size: int = 64
    learning_rate: float = 0.01
    held_out: float = 0.2
    budgets: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 1.0)
    least_found: float = 0.99
    attempts: int = 5
    thresholds: Thresholds = Thresholds(m=0.02, r=0.11, q=0.62, n=0.05)  # noqa: RUF009

    def __post_init__(self) -> None:
        check_speedups(self.speedups)


@dataclass(frozen=True, eq=False)
class Views:
    """What the parties see: each classifier's outputs on members and nonmembers.

    ``train`` and ``held_out`` are the defender's, ``shadow`` the attacker's (from its own
    classifier), ``evaluation`` the vectors to protect. ``accuracy`` is the target's.
    """

    train: Observed
    held_out: Observed
    shadow: Observed
    evaluation: Observed
    accuracy: Mapping[str, float]


def build_membership(
    table: Table, settings: MembershipSettings, *, seed: int, run: RunFolder
) -> dict[str, Any]:
    """Train target, D, tiers and attacker; write one bundle a live tier into the run's folder.

    Returns the JSON of `privet protect build`. Finished networks are kept in the folder, so an
    interrupted build resumes. A tier that finds no noise is refused: reported, not written.
    """
    views = observe(table, settings, seed=seed, stages=run)
    k = table.classes

    def train(name: str, untrained: Callable[[], Trained], data: Observed, epochs: int) -> Trained:
        fit_it = partial(
            _fit_binary, data=data, epochs=epochs, settings=settings, seed=derive(seed, name)
        )
        return train_stage(run, name, untrained, fit_it)

    def new(name: str, hidden: tuple[int, ...]) -> Callable[[], Trained]:
        architecture = FullyConnected(k, hidden, 1)
        return partial(fresh, architecture, derive(seed, "initialize", name), glorot=True)

    base = train("base", new("base", settings.defense_hidden), views.train, settings.defense_epochs)
    attacker = train(
        "attacker",
        new("attacker", settings.attacker_hidden),
        views.shadow,
        settings.attacker_epochs,
    )
    tiers = {}
    for speedup in settings.speedups:
        for attempt in range(settings.attempts):
            tiers[speedup] = train(
                f"tier-{speedup:g}-attempt-{attempt}",
                partial(make_tier, base, speedup, pruner=_pruner(seed, attempt)),
                views.train,
                settings.tier_epochs,
            )
            if found_share(tiers[speedup], views.held_out) >= settings.least_found:
                break
    return _report(table, views, settings=settings, networks=(base, tiers, attacker), run=run)


def check_membership(table: Table, settings: MembershipSettings, seed: int) -> None:
    """Raise what would stop `build_membership`, before anything is written.

    Raises
    ------
    DataError
        When the table holds images or too few rows.
    OptionError
        When a speed-up is out of reach for the table's number of classes.
    """
    if table.images:
        raise DataError(f"{table.name} holds images; its classifier takes tables of numbers")
    membership_split(len(table), seed)
    for speedup in settings.speedups:
        widths_at(table.classes, settings.defense_hidden, 1, speedup=speedup)


def observe(table: Table, settings: MembershipSettings, *, seed: int, stages: Stages) -> Views:
    """Train the target and the attacker's shadow classifier; return what they reveal."""
    split = membership_split(len(table), seed)
    inputs, labels = dense(table, np.arange(len(table)))

    def classifier(name: str, members: IntArray) -> nn.Module:
        architecture = FullyConnected(inputs.shape[1], settings.target_hidden, table.classes)
        fit_it = partial(
            _fit_classifier,
            data=(inputs[members], labels[members]),
            settings=settings,
            seed=derive(seed, name),
        )
        start = partial(fresh, architecture, derive(seed, "initialize", name), glorot=True)
        return train_stage(stages, name, start, fit_it).model

    def ask(model: nn.Module, inside: IntArray, outside: IntArray) -> Observed:
        rows = np.concatenate([inside, outside])
        logits = query.logits(model, inputs[rows]).numpy()
        return Observed(logits, np.arange(len(rows)) < len(inside))

    target = classifier("target", split.members)
    shadow = classifier("shadow", split.shadow_members)
    known = ask(target, split.members, split.nonmembers)
    order = generator(seed, "held out").permutation(len(known.members))
    held_out, train = np.split(order, [round(settings.held_out * len(order))])
    outside = split.evaluation_nonmembers
    return Views(
        train=known.take(train),
        held_out=known.take(held_out),
        shadow=ask(shadow, split.shadow_members, split.shadow_nonmembers),
        evaluation=ask(target, split.members, outside),
        accuracy={
            "members": query.accuracy(target, inputs[split.members], labels[split.members]),
            "nonmembers": query.accuracy(target, inputs[outside], labels[outside]),
        },
    )


def _pruner(seed: int, attempt: int) -> Structural:
    """Return L1 ranking, and for every further attempt another random one.

    Retraining the same units in another order hardly ever revives a dead tier.
    """
    return Structural() if attempt == 0 else Structural(seed=derive(seed, "attempt", attempt))


def _fit_classifier(
    model: nn.Module, *, data: Dense, settings: MembershipSettings, seed: int
) -> Fitted:
    setup = Setup(
        model=model,
        inputs=data[0],
        labels=data[1],
        optimizer=sgd(settings.learning_rate),
        batch_size=settings.batch_size,
    )
    late = settings.target_epochs // 4
    fit(setup, derive(seed, "early"), most=settings.target_epochs - late)
    setup = replace(setup, optimizer=sgd(settings.learning_rate / 10))
    return fit(setup, derive(seed, "late"), most=late)


def _fit_binary(
    model: nn.Module, *, data: Observed, epochs: int, settings: MembershipSettings, seed: int
) -> Fitted:
    inputs, labels = data.as_training_data()
    setup = Setup(
        model=model,
        inputs=inputs,
        labels=labels,
        optimizer=sgd(settings.learning_rate),
        batch_size=settings.batch_size,
        loss=_binary_loss,
    )
    return fit(setup, seed, most=epochs)


def _binary_loss(step: Step) -> Tensor:
    return binary_cross_entropy_with_logits(step.logits[:, 0], step.labels.float())


def _report(
    table: Table,
    views: Views,
    *,
    settings: MembershipSettings,
    networks: tuple[Trained, Mapping[float, Trained], Trained],
    run: RunFolder,
) -> dict[str, Any]:
    """Attack every tier, write the live ones' bundles, and check Definitions 1-3."""
    base, trained, attacker = networks
    vectors = views.evaluation
    base_figures = _figures(base, views)
    before = attacked(base, attacker.model, vectors, settings.budgets)
    tiers = []
    for speedup, tier in trained.items():
        figures = _figures(tier, views)
        found = found_share(tier, views.held_out)
        by_budget = attacked(tier, attacker.model, vectors, settings.budgets)
        measured = Thresholds(
            m=abs(figures["accuracy"] - base_figures["accuracy"]),
            r=figures["parameters"] / base_figures["parameters"],
            q=mean_accuracy(by_budget),
            n=abs(mean_accuracy(by_budget) - mean_accuracy(before)),
        )
        report = {
            "asked_speedup": speedup,
            "reached_speedup": base_figures["macs"] / figures["macs"],
            **figures,
            "found": found,
            "released": found >= settings.least_found,
            "attack_accuracy": mean_accuracy(by_budget),
            "attack_accuracy_by_budget": by_budget,
            "definitions": check_tier(settings.thresholds, measured),
        }
        written: dict[str, Any] = {"bundle": None, "bytes": 0}
        if report["released"]:
            card = {"dataset": table.name, **report}
            bundle = Bundle(kind="membership", network=to_device(tier.model), card=card)
            written = write_tier(bundle, run.path, f"{table.name}-x{speedup:g}")
        tiers.append({**report, **written})
    checked = check_all(settings.thresholds, tiers)
    all_released = all(tier["released"] for tier in tiers)
    return {
        "dataset": table.name,
        "kind": "membership",
        "target": {"accuracy": dict(views.accuracy)},
        "base": base_figures,
        "base_attack_accuracy_by_budget": before,
        "tiers": tiers,
        "definitions": {**checked, "passed": checked["passed"] and all_released},
        "attack": _unprotected(attacker, vectors),
    }


def _unprotected(attacker: Trained, vectors: Observed) -> dict[str, Any]:
    """Return what the attack makes of the confidences as they are."""
    truth = vectors.members
    scores = query.logits(attacker.model, vectors.as_training_data()[0])[:, 0].numpy()
    return {
        "name": "fully connected on sorted confidences of a shadow classifier",
        "unprotected_accuracy": float(((scores > 0) == truth).mean()),
        "unprotected_auc": auc(scores, truth),
        "majority_accuracy": float(max(truth.mean(), 1 - truth.mean())),
    }


def _figures(network: Trained, views: Views) -> dict[str, Any]:
    accuracy = query.accuracy(network.model, *views.held_out.as_training_data())
    return {"accuracy": accuracy, **size(network.architecture)}
