"""`privet protect build`: choose the protection that fits the data, and build its bundles."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from privet.data.registry import DATASETS, load
from privet.errors import OptionError
from privet.files import write_json
from privet.jobs.attribute_training import RECIPES, AttributeSettings, split_users
from privet.jobs.inputs import data_settings
from privet.jobs.membership_training import MembershipSettings
from privet.jobs.protect_attribute import build_attribute
from privet.jobs.protect_membership import build_membership, check_membership
from privet.jobs.stages import open_run, versions
from privet.jobs.tiers import Thresholds

Kind = Literal["attribute", "membership"]
Settings = AttributeSettings | MembershipSettings


def build_protection(
    dataset: str,
    *,
    kind: Kind | None = None,
    hidden: int | None = None,
    attacker_hidden: int | None = None,
    speedups: tuple[float, ...] | None = None,
    recipe: str | None = None,
    importance: str | None = None,
    bounds: Mapping[str, float] | None = None,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Build protection bundles for a data set into ``out``; return the JSON of the build.

    Parameters
    ----------
    dataset
        A registered name, or the path of a table (`privet.data.registry`).
    kind
        What is protected; a registered data set knows, a file defaults to the attribute.
    hidden, attacker_hidden
        Hidden units of D and of the attack model, for attribute protection only.
    speedups
        One tier each; the paper's for the kind by default.
    recipe, importance
        How tiers are retrained (a name in `RECIPES`) and what tells the units to keep, for
        attribute protection only.
    bounds
        Replaces some of the bounds of Definitions 1-3, by name: m, r, q, n.

    Raises
    ------
    OptionError
        When options do not fit the kind, or ``out`` holds something else.
    """
    if kind is None:
        kind = (DATASETS[dataset].protects if dataset in DATASETS else None) or "attribute"
    settings = choose_settings(
        kind,
        hidden=hidden,
        attacker_hidden=attacker_hidden,
        speedups=speedups,
        recipe=recipe,
        importance=importance,
    )
    settings = replace(settings, thresholds=bounded(settings.thresholds, bounds or {}))
    table = load(dataset)
    build: Callable[..., dict[str, Any]]
    if isinstance(settings, AttributeSettings):
        users = split_users(table, settings, seed)
        build = partial(build_attribute, users, settings, seed=seed)
    else:
        check_membership(table, settings, seed)
        build = partial(build_membership, table, settings, seed=seed)
    about = {**data_settings(dataset, table), "seed": seed, "kind": kind}
    run = open_run(out, "protect", {**about, **asdict(settings)})
    if run.result is None or not all(_written(tier, out) for tier in run.result["tiers"]):
        started = time.perf_counter()
        result = build(run=run)
        result |= {"seconds": time.perf_counter() - started, "seed": seed, "versions": versions()}
        write_json(out / "protect.json", result)
        return run.finish(result)
    return run.result


def choose_settings(
    kind: Kind,
    *,
    hidden: int | None,
    attacker_hidden: int | None,
    speedups: tuple[float, ...] | None,
    recipe: str | None = None,
    importance: str | None = None,
) -> Settings:
    """Return the settings of one kind of protection, with the given ones replaced."""
    if recipe is not None and recipe not in RECIPES:
        raise OptionError(f"there is no recipe {recipe!r}; choose from {', '.join(RECIPES)}")
    named: Mapping[str, Any] = {
        "hidden": hidden,
        "attacker_hidden": attacker_hidden,
        "speedups": speedups,
        "tier": None if recipe is None else RECIPES[recipe],
        "importance": importance,
    }
    given = {name: value for name, value in named.items() if value is not None}
    if kind == "attribute":
        return replace(AttributeSettings(), **given)
    if set(given) - {"speedups"}:
        raise OptionError(
            "hidden widths, recipes and importance are options of attribute protection only"
        )
    return replace(MembershipSettings(), **given)


def _written(tier: Mapping[str, Any], folder: Path) -> bool:
    """Say whether a tier's bundle is still there, or never was."""
    return tier["bundle"] is None or (folder / Path(tier["bundle"]).name).exists()


def bounded(thresholds: Thresholds, bounds: Mapping[str, float]) -> Thresholds:
    """Return ``thresholds`` with some replaced by name."""
    unknown = set(bounds) - {"m", "r", "q", "n"}
    if unknown or not all(0 <= bound <= 1 for bound in bounds.values()):
        raise OptionError(f"bounds are m, r, q and n, each in [0, 1]; got {dict(bounds)}")
    return replace(thresholds, **bounds)
