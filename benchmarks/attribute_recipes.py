"""How attribute protection's default recipe and search were chosen, repeated without test users.

Every recipe retrains the same pruned D on part of the training users. Held-out training users are
then protected, and attackers that learned from the others, from seeds of their own, guess their
attribute: exactly, in expectation over the mechanism, and averaged over the five budgets. Nobody
who is judged stops training. Lower attack accuracy is better, and higher accuracy of the tier.
The test split is never looked at. Each seed draws users, networks and attackers anew; figures are
means, and standard deviations over the seeds. With ``--search`` the default recipe stays, and the
answers believed of attackers (temperature, leak) and the share of users below which a feature is
rare move around their defaults, one at a time. Without Att in the data cache, and without
``--data``, users are synthetic and the figures mean nothing.

    python benchmarks/attribute_recipes.py --attacker-hidden 2000
    python benchmarks/attribute_recipes.py --attacker-hidden 2000 --search
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from privet import query
from privet.attacks.attribute import (
    ATTRIBUTE_ATTACKERS,
    Guess,
    Known,
    hold_out,
    with_hidden,
)
from privet.data.cache import home
from privet.data.registry import load
from privet.data.synthetic import synthetic_ratings
from privet.data.table import Table
from privet.jobs.attribute_evaluation import attack_accuracy, releases_by_budget
from privet.jobs.attribute_training import (
    RECIPES,
    AttributeSettings,
    Recipe,
    Users,
    search_settings,
    split_users,
    train_base,
    train_tier,
)
from privet.jobs.stages import Forgetful
from privet.jobs.tiers import Trained, mean_accuracy, to_device
from privet.seeds import derive

Figures = dict[str, float]


def practice_users(table: Table, settings: AttributeSettings, *, judged: int, seed: int) -> Users:
    """Return training users alone, so many of whom stand in for the test users."""
    known = split_users(table, settings, seed).known
    whole = replace(known, test=None)
    share = judged / len(whole)
    held, rest = hold_out(len(whole), share, derive(seed, "judged"), what=whole.name)
    return split_users(replace(whole.take(rest), test=whole.take(held)), settings, seed)


def trained_attackers(
    users: Users, names: Sequence[str], *, hidden: int, seed: int
) -> dict[str, Guess]:
    """Return attackers that learned from all but the users who are judged."""
    table = users.known
    known = Known(table.inputs, table.labels, table.classes)
    return {
        name: with_hidden(ATTRIBUTE_ATTACKERS[name], hidden).fit(
            known, seed=derive(seed, "attacker", name)
        )
        for name in names
    }


def judge(
    network: Trained, users: Users, settings: AttributeSettings, *, attackers: Mapping[str, Guess]
) -> Figures:
    """Return each attacker's accuracy on the judged users, in expectation, over all budgets."""
    releases = releases_by_budget(
        to_device(network.model),
        users.test_records,
        prior=users.prior,
        budgets=settings.budgets,
        settings=search_settings(users, settings),
    )
    labels = users.test[1].numpy()
    found = {
        name: mean_accuracy(attack_accuracy(guess, users.test_records, labels, releases=releases))
        for name, guess in attackers.items()
    }
    return {
        "accuracy": query.accuracy(network.model, *users.test),
        **found,
        "mean": float(np.mean(list(found.values()))),
    }


def searches(settings: AttributeSettings) -> dict[str, AttributeSettings]:
    """Return the default search and its neighbors, by what they change."""
    found = {"default": settings}
    for name, values in (("temperature", (0.15, 0.6, 1.0)), ("leak", (0.0, 0.075, 0.3))):
        for value in values:
            search = replace(settings.search, **{name: value})
            found[f"{name} {value:g}"] = replace(settings, search=search)
    for rare in (0.0, 0.0004, 0.0016, 0.0032):
        found[f"rare {rare:g}"] = replace(settings, rare=rare)
    return found


def one_seed(
    table: Table, settings: AttributeSettings, asked: argparse.Namespace, *, seed: int
) -> dict[str, Figures]:
    """Return the figures of every recipe, or of every search, on one seed."""
    began = perf_counter()
    users = practice_users(table, settings, judged=asked.users, seed=seed)
    base = train_base(users, settings, seed=seed, stages=Forgetful())
    attackers = trained_attackers(
        users, asked.attackers.split(","), hidden=settings.attacker_hidden, seed=seed
    )
    print(f"seed {seed}: D and attackers took {perf_counter() - began:.0f} s", flush=True)
    usual = {name: replace(settings, tier=RECIPES[name]) for name in asked.recipes.split(",")}
    tiers: dict[Recipe, Trained] = {}
    found: dict[str, Figures] = {}
    for name, way in (searches(settings) if asked.search else usual).items():
        began = perf_counter()
        if way.tier not in tiers:
            # Without a name of its own, so that all recipes start from the same draws.
            tiers[way.tier] = train_tier(
                base, users, way, speedup=asked.speedup, seed=seed, stages=Forgetful()
            )
        found[name] = judge(tiers[way.tier], users, way, attackers=attackers)
        taken = perf_counter() - began
        print(f"seed {seed}, {name}: {found[name]['mean']:.4f}, {taken:.0f} s", flush=True)
    return found


def show(seeds: Sequence[Mapping[str, Figures]]) -> None:
    """Print means, and standard deviations over the seeds where there are several."""
    print(f"\n{'':18}" + "".join(f"{column:>17}" for column in next(iter(seeds[0].values()))))
    for name, first in seeds[0].items():
        cells = []
        for column in first:
            values = [each[name][column] for each in seeds]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{f'{np.mean(values):.4f}{spread}':>17}")
        print(f"{name:18}" + "".join(cells))


def main() -> None:
    usual = AttributeSettings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a registered name or a table; Att where it is cached")
    parser.add_argument("--hidden", type=int, default=usual.hidden, help="of D")
    parser.add_argument("--speedup", type=float, default=50.0, help="of the tier")
    parser.add_argument("--attacker-hidden", type=int, default=usual.attacker_hidden)
    parser.add_argument("--attackers", default="nn,nn-late,logistic")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--users", type=int, default=800, help="training users judged")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--search", action="store_true", help="compare searches, not recipes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    name = asked.data or ("att" if (home() / "att").is_dir() else None)
    table = load(name) if name else synthetic_ratings(0, users=2000, features=200, classes=5)
    settings = replace(
        usual,
        hidden=asked.hidden,
        speedups=(asked.speedup,),
        attacker_hidden=asked.attacker_hidden,
    )
    print(f"{table.name}: {asked.users} training users judged, D of {asked.hidden} hidden units")
    show([one_seed(table, settings, asked, seed=seed) for seed in range(asked.seeds)])


if __name__ == "__main__":
    main()
