"""`privet protect build`: choose the protection that fits the data, and build its bundles."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from privet.data.registry import DATASETS, load
from privet.data.table import Table
from privet.device.bundle import outline
from privet.device.rules import Policy, features_named
from privet.errors import BundleError, OptionError
from privet.files import write_json
from privet.jobs.attribute_training import RECIPES, AttributeSettings, split_users
from privet.jobs.inputs import data_settings
from privet.jobs.membership_training import MembershipSettings
from privet.jobs.protect_attribute import build_attribute
from privet.jobs.protect_membership import build_membership, check_membership
from privet.jobs.stages import open_run, versions
from privet.jobs.tiers import Thresholds, check_precisions

Kind = Literal["attribute", "membership"]
Settings = AttributeSettings | MembershipSettings


def build_protection(
    dataset: str,
    *,
    kind: Kind | None = None,
    hidden: int | None = None,
    attacker_hidden: int | None = None,
    speedups: tuple[float, ...] | None = None,
    precisions: Sequence[str] = ("float32",),
    recipe: str | None = None,
    importance: str | None = None,
    policy: Policy | None = None,
    low: float | Sequence[float] | None = None,
    high: float | Sequence[float] | None = None,
    never: Sequence[str] = (),
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
    precisions
        How bundles store weights; one bundle a speed-up and precision, each measured by itself.
    recipe, importance
        How tiers are retrained (a name in `RECIPES`) and what tells the units to keep, for
        attribute protection only.
    policy, low, high, never
        Rules that the evaluated search keeps and the bundles hold, for attribute protection only:
        which entries may change, the legal values, one number or one a feature, and features, by
        name or number, that are never changed, beside those that almost no training user has.
        See `privet.device.Rules`.
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
    if kind != "attribute" and (never or (policy, low, high) != (None, None, None)):
        raise OptionError("policy, low, high and never are options of attribute protection only")
    stored = check_precisions(precisions)
    settings = replace(settings, thresholds=bounded(settings.thresholds, bounds or {}))
    table = load(dataset)
    build: Callable[..., dict[str, Any]]
    if isinstance(settings, AttributeSettings):
        settings = with_rules(settings, table, policy=policy, low=low, high=high, never=never)
        users = split_users(table, settings, seed)
        build = partial(build_attribute, users, settings, precisions=stored, seed=seed)
    else:
        check_membership(table, settings, seed)
        build = partial(build_membership, table, settings, precisions=stored, seed=seed)
    about = {**data_settings(dataset, table), "seed": seed, "kind": kind}
    if stored != ("float32",):  # builds of before there were others stay what they are
        about["precisions"] = stored
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


def with_rules(
    settings: AttributeSettings,
    table: Table,
    *,
    policy: Policy | None = None,
    low: float | Sequence[float] | None = None,
    high: float | Sequence[float] | None = None,
    never: Sequence[str] = (),
) -> AttributeSettings:
    """Return settings whose search keeps the rules given for a table; see `build_protection`.

    Raises
    ------
    OptionError
        On rules that make no sense, or do not fit the features of the table.
    """
    named = {"policy": policy, "low": low, "high": high}
    rules: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list | tuple) else value
        for name, value in named.items()
        if value is not None
    }
    features = table.row_shape[0]
    untouched = np.flatnonzero(features_named(never, features, table.feature_names))
    search = replace(settings.search, **rules, never=tuple(untouched.tolist()))
    search.rules.legal_values(features)
    return replace(settings, search=search)


def _written(tier: Mapping[str, Any], folder: Path) -> bool:
    """Say whether a tier's bundle is still there and of today's format, or never was."""
    if tier["bundle"] is None:
        return True
    try:
        outline(folder / Path(tier["bundle"]).name)
    except BundleError:
        return False
    return True


def bounded(thresholds: Thresholds, bounds: Mapping[str, float]) -> Thresholds:
    """Return ``thresholds`` with some replaced by name."""
    unknown = set(bounds) - {"m", "r", "q", "n"}
    if unknown or not all(0 <= bound <= 1 for bound in bounds.values()):
        raise OptionError(f"bounds are m, r, q and n, each in [0, 1]; got {dict(bounds)}")
    return replace(thresholds, **bounds)
