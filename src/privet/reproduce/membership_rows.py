"""One seed of SP-ASPP's Table 1 for membership protection: rows, controls, every attacker."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from privet import query
from privet.attacks.confidences import BUNDLE, CONFIDENCE_ATTACKERS
from privet.data.table import Table
from privet.jobs.inputs import data_settings
from privet.jobs.membership_attackers import TrainedNetwork, attack_confidences
from privet.jobs.membership_evaluation import found_share
from privet.jobs.membership_training import (
    MembershipSettings,
    Views,
    observe,
    train_attacker,
    train_base,
    train_tier,
)
from privet.jobs.protect_membership import check_membership
from privet.jobs.stages import open_run, remembered
from privet.jobs.tiers import Trained, size, to_device
from privet.progress import track
from privet.seeds import derive

Document = dict[str, Any]

ATTACKER = "nn"
"""The paper's attacker."""
FEW_CLASSES = 10
"""Up to so many, the paper prunes further: its fewest, CH-MNIST, have 8."""


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is, and who attacks."""

    settings: MembershipSettings
    attackers: tuple[str, ...] = tuple(CONFIDENCE_ATTACKERS)


def scale_of(table: Table, name: str) -> Scale:
    """Return a scale for a data set: the paper's speed-ups by its number of classes.

    All networks are the paper's at either scale; at "small", no attacker holds the bundle, since
    those that do learn anew at every budget.
    """
    few = table.classes <= FEW_CLASSES
    settings = MembershipSettings(
        speedups=(50.0, 100.0, 150.0, 200.0) if few else (20.0, 40.0, 60.0)
    )
    if name == "paper":
        return Scale(settings)
    without = [name for name, each in CONFIDENCE_ATTACKERS.items() if BUNDLE not in each.knows]
    return Scale(settings, tuple(without))


def rows(table: Table, scale: Scale, *, dataset: str, seed: int, folder: Path) -> Document:
    """Build and attack every row on one seed, in a run folder; return them as JSON.

    The evaluated vectors judge, and decide nothing: a tier's release is decided on held-out ones
    of the defender's.
    """
    settings = scale.settings
    check_membership(table, settings, seed)
    about = {**data_settings(dataset, table), "seed": seed, **asdict(scale)}
    run = open_run(folder, "table1", about)
    if run.result is not None:
        return run.result
    views = observe(table, settings, seed=seed, stages=run)
    base = train_base(views, settings, seed=seed, stages=run)
    attacker = train_attacker(views, settings, seed=seed, stages=run)
    networks = {0.0: base} | {
        speedup: train_tier(base, views, settings, speedup=speedup, seed=seed, stages=run)
        for speedup in settings.speedups
    }
    made = []
    for speedup, network in track(networks.items(), "rows", total=len(networks)):
        make = partial(
            _made, speedup, network, base, views=views, attacker=attacker, scale=scale, seed=seed
        )
        made.append(remembered(run, f"row-{speedup:g}", make))
    return run.finish(_document(made, views, scale))


def _made(
    speedup: float,
    network: Trained,
    base: Trained,
    *,
    views: Views,
    attacker: Trained,
    scale: Scale,
    seed: int,
) -> Document:
    """Attack one defense model and return its row."""
    settings = scale.settings
    attackers = {name: CONFIDENCE_ATTACKERS[name] for name in scale.attackers}
    attackers[ATTACKER] = TrainedNetwork(attacker.model)
    found = attack_confidences(
        to_device(network.model),
        shadow=views.shadow,
        vectors=views.evaluation,
        budgets=settings.budgets,
        seed=derive(seed, "attackers"),
        attackers=attackers,
    )
    figures = size(network.architecture)
    share = found_share(network, views.held_out)
    return {
        "method": "SP-ASPP" if speedup else "MemGuard",
        "about": "" if speedup else "D unpruned",
        "control": False,
        "nominal_speedup": speedup or 1,
        "speedup": size(base.architecture)["macs"] / figures["macs"],
        **figures,
        "accuracy": query.accuracy(network.model, *views.held_out.as_training_data()),
        "attacked": len(views.evaluation.members),
        "attackers": {
            one["attacker"]: {
                figure: {budget: each[figure] for budget, each in one["by_budget"].items()}
                for figure in ("accuracy", "auc")
            }
            for one in found
        },
        "unprotected": {one["attacker"]: one["unprotected"] for one in found},
        "found": share,
        "released": share >= settings.least_found,
        "each_seed": ["found", "released"],
    }


def _document(made: list[Document], views: Views, scale: Scale) -> Document:
    budgets = [f"{budget:g}" for budget in scale.settings.budgets]
    return {
        "budgets": list(scale.settings.budgets),
        "attacker": ATTACKER,
        "attackers": {name: _about(name) for name in made[0]["attackers"]},
        "unprotected": {
            name: {figure: dict.fromkeys(budgets, value) for figure, value in figures.items()}
            for name, figures in made[0]["unprotected"].items()
        },
        "rows": made,
        "target": dict(views.accuracy),
        "notes": _notes(scale.attackers),
    }


def _about(name: str) -> str:
    attacker = CONFIDENCE_ATTACKERS[name]
    knows = f" (knows the {' and the '.join(attacker.knows)})" if attacker.knows else ""
    return f"{attacker.paper}{knows}"


LABELS = (
    "The label is never changed, so whoever knows the true one is right as often as without "
    "protection, since members are classified rightly more often (gap)."
)
HOLDERS = (
    "Attackers that know the bundle practice on a classifier of their own, under the same "
    "protection; the defense model itself, turned round where it is undecided, is one of them. "
    "Where they find more than the others, the bundle must not leave the server that answers."
)


def _notes(names: Sequence[str]) -> list[str]:
    """Return what a reader must know of the figures of some attackers."""
    holds = any(BUNDLE in CONFIDENCE_ATTACKERS[name].knows for name in names)
    return [LABELS, HOLDERS] if holds else [LABELS]
