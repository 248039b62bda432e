"""Building attribute protection: the first SP-ASPP from training users to checked bundles.

A defense model D learns to guess the private attribute, is pruned to tiers d and retrained; each
tier goes out as a bundle. An attack model that none of them has seen then tries to guess the
attribute of protected test users.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from privet import query
from privet.attacks.attribute import NETWORK, NetworkGuess, guesses
from privet.device import Bundle
from privet.device.quantize import Precision
from privet.fit import Fitted
from privet.jobs.attribute_evaluation import chance_right, releases_by_budget
from privet.jobs.attribute_training import (
    AttributeSettings,
    Recipe,
    Users,
    search_settings,
    train_base,
    train_tier,
)
from privet.jobs.stages import RunFolder
from privet.jobs.tiers import (
    Thresholds,
    Trained,
    check_all,
    check_tier,
    fresh,
    in_precisions,
    mean_accuracy,
    size,
    to_device,
    train_stage,
    write_tier,
)
from privet.seeds import derive
from privet.signals import FloatArray


def build_attribute(
    users: Users,
    settings: AttributeSettings,
    *,
    precisions: Sequence[Precision] = ("float32",),
    seed: int,
    run: RunFolder,
) -> dict[str, Any]:
    """Train D, make its tiers, attack them, and write one bundle a tier into the run's folder.

    A tier goes out in each of the ``precisions``; each is measured by itself, trained once.
    Returns the JSON of `privet protect build`. Finished networks are kept in the folder, so an
    interrupted build resumes.
    """
    base = train_base(users, settings, seed=seed, stages=run)
    tiers = {
        speedup: train_tier(base, users, settings, speedup=speedup, seed=seed, stages=run)
        for speedup in settings.speedups
    }
    attacker = _attacker(users, settings, seed=seed, run=run)
    networks = (base, tiers, attacker)
    return _report(users, settings=settings, networks=networks, precisions=precisions, run=run)


def _attacker(users: Users, settings: AttributeSettings, *, seed: int, run: RunFolder) -> Trained:
    """Train the attack model, of D's kind and by D's recipe, from other initial weights."""
    network = replace(NETWORK, hidden=settings.attacker_hidden)
    architecture = network.architecture(users.table.inputs, users.table.classes)
    start = partial(fresh, architecture, derive(seed, "initialize", "attacker"))

    def train(model: nn.Module) -> Fitted:
        return Recipe().train(model, users, derive(seed, "attacker"))

    return train_stage(run, "attacker", start, train)


def _report(
    users: Users,
    *,
    settings: AttributeSettings,
    networks: tuple[Trained, Mapping[float, Trained], Trained],
    precisions: Sequence[Precision],
    run: RunFolder,
) -> dict[str, Any]:
    """Attack every tier, write its bundle, and hold the figures against Definitions 1-3."""
    base, trained, attack_network = networks
    attacker, name = attack_network.model, users.table.name
    few = min(settings.check_users, len(users.test[1]))
    on_base, _ = _attack(base, attacker, users=users, settings=settings, first=few)
    before = _accuracy(on_base)
    base_figures = _figures(base, users)
    tiers = []
    for speedup, precision, tier in in_precisions(trained, precisions):
        right, reached = _attack(tier, attacker, users=users, settings=settings)
        figures = _figures(tier, users)
        by_budget, same_users = _accuracy(right), _accuracy(right, first=few)
        measured = Thresholds(
            m=abs(figures["accuracy"] - base_figures["accuracy"]),
            r=figures["parameters"] / base_figures["parameters"],
            q=mean_accuracy(by_budget),
            n=abs(mean_accuracy(same_users) - mean_accuracy(before)),
        )
        report = {
            "asked_speedup": speedup,
            "reached_speedup": base_figures["macs"] / figures["macs"],
            "precision": precision,
            **figures,
            "attack_accuracy": mean_accuracy(by_budget),
            "attack_accuracy_by_budget": by_budget,
            "reached_targets": reached,
            "definitions": check_tier(settings.thresholds, measured),
        }
        bundle = _bundle(tier, users=users, settings=settings, report=report)
        written = write_tier(bundle, run.path, f"{name}-x{speedup:g}", precision=precision)
        tiers.append({**report, **written})
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
) -> tuple[dict[float, FloatArray], float]:
    """Attack the first test users, or all, as protected by one defense model.

    Returns at each budget the chance that the attacker is right about each user, and the share of
    candidates at the smallest budget whose target the search can reach.
    """
    records, labels = users.test_records[:first], users.test[1].numpy()[:first]
    releases = releases_by_budget(
        to_device(defense.model),
        records,
        prior=users.prior,
        budgets=settings.budgets,
        settings=search_settings(users, settings),
    )
    right = chance_right(NetworkGuess(attacker), records, labels, releases=releases)
    smallest = releases[min(releases)]
    return right, float(smallest.candidates.reached.mean())


def _accuracy(right: Mapping[float, FloatArray], first: int | None = None) -> dict[str, float]:
    """Return the attacker's accuracy at each budget, on the first users or all."""
    return {f"{budget:g}": float(chances[:first].mean()) for budget, chances in right.items()}


def _bundle(
    tier: Trained, *, users: Users, settings: AttributeSettings, report: dict[str, Any]
) -> Bundle:
    return Bundle(
        kind="attribute",
        network=to_device(tier.model),
        prior=users.prior,
        settings=search_settings(users, settings),
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
