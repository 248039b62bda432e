"""One seed of SP-ASPP's Table 1 for attribute protection: every row made and attacked."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from privet import query
from privet.attacks.attribute import (
    ATTRIBUTE_ATTACKERS,
    AttributeAttacker,
    Guess,
    Known,
    Records,
    with_hidden,
)
from privet.data.table import Table
from privet.device.releases import Releases
from privet.jobs.attribute_evaluation import (
    attack_accuracy,
    protection,
    random_noise,
    releases_by_budget,
)
from privet.jobs.attribute_training import (
    AttributeSettings,
    Recipe,
    Users,
    search_settings,
    split_users,
    train_base,
    train_tier,
)
from privet.jobs.inputs import data_settings
from privet.jobs.stages import RunFolder, open_run, remembered
from privet.jobs.tiers import Trained, size, to_device
from privet.progress import track
from privet.reproduce.attribute_plans import ATTACKER, Row, Scale, rows_at
from privet.seeds import derive
from privet.signals import IntArray

Document = dict[str, Any]


def rows(table: Table, scale: Scale, *, dataset: str, seed: int, folder: Path) -> Document:
    """Build and attack every row on one seed, in a run folder; return them as JSON.

    The test users judge, and decide nothing. Attackers learn from the training users, whom the
    defense models learned from as well.
    """
    users = split_users(table, scale.settings, seed)
    about = {**data_settings(dataset, table), "seed": seed, **asdict(scale)}
    run = open_run(folder, "table1", about)
    if run.result is not None:
        return run.result
    attackers = Attackers(users.known, scale, seed)
    plans = rows_at(scale)
    found = [
        _row(row, users, attackers=attackers, scale=scale, seed=seed, run=run) | _told(row)
        for row in track(plans, "rows", total=len(plans))
    ]
    unprotected = remembered(
        run, "unprotected", lambda: _unprotected(users, attackers, scale.settings)
    )
    return run.finish(
        {
            "budgets": list(scale.settings.budgets),
            "attacker": ATTACKER,
            "attackers": {
                name: attackers.about(name)
                for name in (*attackers.names, *attackers.hardened, "adversarial")
            },
            "unprotected": unprotected,
            "rows": found,
            "notes": [],
        }
    )


class Attackers:
    """The attackers of one seed, each trained on known users when it is first needed."""

    def __init__(self, known: Table, scale: Scale, seed: int) -> None:
        self._scale, self._seed = scale, seed
        self._known = Known(known.inputs, known.labels, known.classes)
        self._trained: dict[str, Guess] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Those that attack every row."""
        return self._scale.attackers

    @property
    def hardened(self) -> tuple[str, ...]:
        """Those that attack few rows besides."""
        return self._scale.hardened

    def guess(self, name: str) -> Guess:
        """Return a trained attacker; it never met the test users."""
        if name not in self._trained:
            seed = derive(self._seed, "attacker", name)
            self._trained[name] = self._attacker(name).fit(self._known, seed=seed)
        return self._trained[name]

    def adaptive(self, release: Callable[[Records], Releases]) -> Guess:
        """Return one that learned from training users as protected by the defense at hand."""
        few = slice(0, self._scale.adaptive_users)
        known = replace(
            self._known,
            records=self._known.records[few],
            labels=self._known.labels[few],
            protect=protection(release),
        )
        seed = derive(self._seed, "attacker", "adversarial")
        return self._attacker("adversarial").fit(known, seed=seed)

    def about(self, name: str) -> str:
        """Return who the attacker is, in words."""
        attacker = self._attacker(name)
        learns = with_hidden(attacker, 1) != attacker  # it is, or holds, a network
        return (
            f"{self._hidden(name):,} hidden units, {attacker.paper}" if learns else attacker.paper
        )

    def _attacker(self, name: str) -> AttributeAttacker:
        return with_hidden(ATTRIBUTE_ATTACKERS[name], self._hidden(name))

    def _hidden(self, name: str) -> int:
        return self._scale.attacker_hidden if name == ATTACKER else self._scale.others_hidden


def _row(
    row: Row, users: Users, *, attackers: Attackers, scale: Scale, seed: int, run: RunFolder
) -> Document:
    """Return one row's figures, from its finished stage or by making them now."""
    return remembered(
        run,
        f"row-{row.name}",
        lambda: _made(row, users, attackers=attackers, scale=scale, seed=seed, run=run),
    )


def _told(row: Row) -> Document:
    """Return what the table says of a row, whatever its figures are."""
    return {
        "method": row.method,
        "about": row.about,
        "control": row.control,
        "nominal_speedup": row.nominal_speedup,
        "each_seed": ["cost_by_budget"],
    }


def _made(
    row: Row, users: Users, *, attackers: Attackers, scale: Scale, seed: int, run: RunFolder
) -> Document:
    base, network = _networks(row, users, scale=scale, seed=seed, run=run)
    units = network.architecture.hidden[0]
    few = slice(0, scale.few if units > scale.wide else None)
    records, labels = users.test_records[few], users.test[1].numpy()[few]
    release = partial(_releases, row, network, users)
    releases = release(records)
    if row.noise:
        releases = _noisy(releases, records, derive(seed, "random noise"))
    names = attackers.names + (attackers.hardened if row.adaptive else ())
    accuracies = {
        name: _by_budget(attack_accuracy(attackers.guess(name), records, labels, releases=releases))
        for name in track(names, "attackers", total=len(names))
    }
    if row.adaptive:
        accuracies["adversarial"] = _adaptive(release, records, labels, attackers=attackers)
    figures = size(network.architecture)
    return {
        "speedup": size(base.architecture)["macs"] / figures["macs"],
        **figures,
        "accuracy": query.accuracy(network.model, *users.test),
        "attacked": len(labels),
        "attackers": {name: {"accuracy": found} for name, found in accuracies.items()},
        "cost_by_budget": {
            f"{key:g}": float(each.expected_cost.mean()) for key, each in releases.items()
        },
    }


def _networks(
    row: Row, users: Users, *, scale: Scale, seed: int, run: RunFolder
) -> tuple[Trained, Trained]:
    """Return the D of a row, and the defense model that protects."""
    own_base = row.units is None and row.control
    base = train_base(
        users,
        row.settings if own_base else replace(row.settings, base=scale.settings.base),
        name=f"base-{row.name}" if own_base else "base",
        seed=seed,
        stages=run,
    )
    if row.units is None:
        return base, base
    recipe: Recipe = row.settings.tier
    # Rows that share a network share its stage.
    ours = (recipe, row.settings.importance) == (scale.settings.tier, scale.settings.importance)
    published = recipe != scale.settings.tier
    name = f"tier-{row.units}" if ours else f"tier-{'published' if published else row.name}"
    tier = train_tier(
        base,
        users,
        row.settings,
        speedup=scale.hidden / row.units,
        name=name,
        seed=seed,
        stages=run,
    )
    return base, tier


def _releases(
    row: Row, network: Trained, users: Users, records: Records, budgets: tuple[float, ...] = ()
) -> dict[float, Releases]:
    return releases_by_budget(
        to_device(network.model),
        records,
        prior=users.prior,
        budgets=budgets or row.settings.budgets,
        settings=search_settings(users, row.settings),
    )


def _noisy(releases: dict[float, Releases], records: Records, seed: int) -> dict[float, Releases]:
    """Return releases of equal cost that change random entries."""
    noise = {
        id(each.candidates): random_noise(each.candidates, records, seed)
        for each in releases.values()
    }
    return {
        budget: replace(each, candidates=noise[id(each.candidates)])
        for budget, each in releases.items()
    }


def _adaptive(
    release: Callable[..., dict[float, Releases]],
    records: Records,
    labels: IntArray,
    *,
    attackers: Attackers,
) -> dict[str, float]:
    """Return what an attacker gets that trained on records protected at the very budget."""
    releases = release(records)

    def accuracy(budget: float) -> float:
        guess = attackers.adaptive(lambda known: release(known, (budget,))[budget])
        return attack_accuracy(guess, records, labels, releases={budget: releases[budget]})[budget]

    return _by_budget({budget: accuracy(budget) for budget in track(releases, "practicing")})


def _unprotected(users: Users, attackers: Attackers, settings: AttributeSettings) -> Document:
    """Return every attacker's accuracy on the records as they are, the same at every budget."""
    labels = users.test[1].numpy()
    found = {}
    for name in attackers.names + attackers.hardened:
        right = float(np.mean(attackers.guess(name)(users.test_records) == labels))
        found[name] = {"accuracy": _by_budget(dict.fromkeys(settings.budgets, right))}
    return found


def _by_budget(found: Mapping[float, float]) -> dict[str, float]:
    return {f"{budget:g}": value for budget, value in found.items()}
