"""Building membership protection: the second SP-ASPP from a data set to checked bundles.

A target classifier is trained on members; a defense model D learns to tell members from
nonmembers by their confidences, is pruned to tiers d and retrained. An attacker with a shadow
classifier of its own then judges the protected confidences.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from privet import query
from privet.data.splits import membership_split
from privet.data.table import Table
from privet.device import Bundle
from privet.device.quantize import Precision
from privet.jobs.membership_evaluation import Observed, attacked, found_share
from privet.jobs.membership_training import (
    MembershipSettings,
    Views,
    observe,
    train_attacker,
    train_base,
    train_tier,
)
from privet.jobs.stages import RunFolder
from privet.jobs.tiers import (
    Thresholds,
    Trained,
    check_all,
    check_tier,
    in_precisions,
    mean_accuracy,
    size,
    to_device,
    write_tier,
)
from privet.metrics import auc
from privet.models import architecture_for
from privet.pruning.speedup import widths_at


def build_membership(
    table: Table,
    settings: MembershipSettings,
    *,
    precisions: Sequence[Precision] = ("float32",),
    seed: int,
    run: RunFolder,
) -> dict[str, Any]:
    """Train target, D, tiers and attacker; write one bundle a live tier into the run's folder.

    A tier goes out in each of the ``precisions``; each is measured by itself, trained once.
    Returns the JSON of `privet protect build`. Finished networks are kept in the folder, so an
    interrupted build resumes. A tier that finds no noise is refused: reported, not written.
    """
    views = observe(table, settings, seed=seed, stages=run)
    base = train_base(views, settings, seed=seed, stages=run)
    attacker = train_attacker(views, settings, seed=seed, stages=run)
    tiers = {
        speedup: train_tier(base, views, settings, speedup=speedup, seed=seed, stages=run)
        for speedup in settings.speedups
    }
    networks = (base, tiers, attacker)
    return _report(
        table, views, settings=settings, networks=networks, precisions=precisions, run=run
    )


def check_membership(table: Table, settings: MembershipSettings, seed: int) -> None:
    """Raise what would stop `build_membership`, before anything is written.

    Raises
    ------
    DataError
        When the table holds too few rows.
    OptionError
        When a speed-up is out of reach for the table's number of classes, or images are too small.
    """
    if table.images:
        architecture_for("resnet18", row_shape=table.row_shape, classes=table.classes)
    membership_split(len(table), seed)
    for speedup in settings.speedups:
        widths_at(table.classes, settings.defense_hidden, 1, speedup=speedup)


def _report(
    table: Table,
    views: Views,
    *,
    settings: MembershipSettings,
    networks: tuple[Trained, Mapping[float, Trained], Trained],
    precisions: Sequence[Precision],
    run: RunFolder,
) -> dict[str, Any]:
    """Attack every tier, write the live ones' bundles, and check Definitions 1-3."""
    base, trained, attacker = networks
    vectors = views.evaluation
    base_figures = _figures(base, views)
    before = attacked(base, attacker.model, vectors, settings.budgets)
    tiers = []
    for speedup, precision, tier in in_precisions(trained, precisions):
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
            "precision": precision,
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
            name = f"{table.name}-x{speedup:g}"
            written = write_tier(bundle, run.path, name, precision=precision)
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
