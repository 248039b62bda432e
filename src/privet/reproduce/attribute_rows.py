"""One seed of SP-ASPP's Table 1 for attribute protection: rows, controls, every attacker."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
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
    AS_PUBLISHED,
    PAPER,
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
from privet.seeds import derive
from privet.signals import IntArray

Document = dict[str, Any]

ATTACKER = "nn-sgd"
"""The paper's attacker."""
NOMINAL: Mapping[int, float] = {699: 50, 299: 100, 200: 150, 99: 200}
"""Hidden units of the paper's tiers, from the parameters it states, and the speed-up it calls
them by. Of 40,000 units, these are really 57, 134, 200 and 404 times fewer MACs."""


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is.

    Parameters
    ----------
    hidden
        Hidden units of D (the paper: 40,000).
    units
        Hidden units of the tiers, one row each.
    wide
        Defense models with more units than this are attacked on ``few`` test users only.
    controls_at
        The tier that controls are made for, and adaptive attackers attack.
    paper_epochs
        Of the control that is trained as published: for D, which takes a hundredfold longer than
        a tier, and for the tier.
    attacker_hidden, others_hidden
        Hidden units of the paper's attacker (30,000), and of all other networks that attack.
    adaptive_users
        Known users that the adversarially trained attacker protects and learns from.
    attackers
        Who attacks every row, by name; see `privet.attacks.attribute.ATTRIBUTE_ATTACKERS`.
    hardened
        Who attacks, at ``controls_at`` only, besides: attackers that evasion is hard against.
        Adversarially trained ones are added there.
    settings
        Everything else.
    """

    hidden: int = 40_000
    units: tuple[int, ...] = (8000, 2000, 800, 699, 400, 299, 200, 99)
    wide: int = 1000
    few: int = 100
    controls_at: int = 200
    paper_epochs: tuple[int, int] = (12, 100)
    attacker_hidden: int = 30_000
    others_hidden: int = 4000
    adaptive_users: int = 4000
    attackers: tuple[str, ...] = (ATTACKER, "nn", "nn-late", "logistic", "forest", "majority")
    hardened: tuple[str, ...] = ("distilled", "region")
    settings: AttributeSettings = field(default_factory=AttributeSettings)


SCALES: Mapping[str, Scale] = {
    "paper": Scale(),
    "small": Scale(
        hidden=4000,
        units=(800, 400, 200, 99),
        few=400,
        paper_epochs=(12, 40),
        attacker_hidden=3000,
        others_hidden=2000,
        adaptive_users=1000,
    ),
}
"""The small one has the paper's tiers of a tenth of its D: speed-ups are a tenth, too."""


@dataclass(frozen=True)
class Row:
    """One way to protect.

    Parameters
    ----------
    name
        Of its stages.
    method
        What the table calls it.
    settings
        How its networks are trained; `Settings` for its search stand in there, too.
    units
        Hidden units of the defense model, None for D itself.
    about
        What makes it differ, in words.
    control
        Whether the row is there to explain others.
    noise
        Whether its changes are replaced by as many random ones.
    adaptive
        Whether hardened and adversarially trained attackers attack it besides.
    """

    name: str
    method: str
    settings: AttributeSettings
    units: int | None
    about: str = ""
    control: bool = False
    noise: bool = False
    adaptive: bool = False


def rows_at(scale: Scale) -> list[Row]:
    """Return the rows of the table, the published methods first."""
    ours = replace(scale.settings, hidden=scale.hidden)
    base_epochs, tier_epochs = scale.paper_epochs
    published = replace(
        ours,
        base=replace(PAPER, epochs=base_epochs),
        tier=replace(PAPER, epochs=tier_epochs),
        search=AS_PUBLISHED,
        rare=0.0,
    )
    at = scale.controls_at
    tiers = [
        Row(f"units-{units}", "SP-ASPP", ours, units, adaptive=units == at) for units in scale.units
    ]
    return [
        Row("D", "AttriGuard, ours", ours, None, "D unpruned, training stopped early"),
        *tiers,
        Row(
            "D-published",
            "AttriGuard, trained long",
            published,
            None,
            f"D trained for {base_epochs} epochs whatever happens, of the paper's 100, the search "
            f"as printed",
            control=True,
        ),
        Row(
            "published",
            "SP-ASPP, trained long",
            published,
            at,
            f"{at} units retrained for {tier_epochs} epochs whatever happens, though kept from our "
            f"D, the search as printed",
            control=True,
        ),
        Row(
            "overtrained",
            "trained long, our search",
            replace(published, search=ours.search, rare=ours.rare),
            at,
            f"{at} units retrained for {tier_epochs} epochs, our search",
            control=True,
        ),
        Row(
            "printed-search",
            "search as printed",
            replace(ours, search=AS_PUBLISHED, rare=0.0),
            at,
            f"{at} units retrained as ours, Algorithm 1 as printed",
            control=True,
        ),
        Row(
            "random-units",
            "random units",
            replace(ours, importance="random"),
            at,
            f"{at} units chosen by lot",
            control=True,
        ),
        Row(
            "random-noise",
            "random noise",
            ours,
            at,
            f"random changes that cost as much as those of {at} units",
            control=True,
            noise=True,
        ),
    ]


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
        "nominal_speedup": None if row.noise else _nominal(row),
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


def _nominal(row: Row) -> float | None:
    return 1 if row.units is None else NOMINAL.get(row.units)


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
