"""How well attackers guess the attribute of protected users (SP-ASPP, section 5.2.1).

Everything is evaluated in expectation, without sampling noise: what an attacker guesses from
every candidate release (`hits`), weighted by how likely the mechanism is to release it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from privet.attacks.attribute import Guess, Protect, Records, guesses
from privet.device import Bundle, Network, Settings
from privet.device.attribute import Candidates
from privet.device.mechanism import choose
from privet.device.releases import Releases, plan_releases
from privet.errors import DataError
from privet.jobs.attribute_files import names_in, read_records, read_truth
from privet.jobs.attribute_hits import entries
from privet.jobs.attribute_hits import hits as hits
from privet.jobs.stages import read_run
from privet.metrics import clopper_pearson
from privet.models import FullyConnected, load_weights
from privet.seeds import generator
from privet.signals import BoolArray, FloatArray, IntArray


def releases_by_budget(
    network: Network,
    records: Records,
    *,
    prior: FloatArray,
    budgets: Sequence[float],
    settings: Settings = Settings(),  # noqa: B008  (frozen)
) -> dict[float, Releases]:
    """Return what Algorithm 1 may release of each record at each budget; see `plan_releases`."""
    planned = plan_releases(network, records, prior=prior, budgets=budgets, settings=settings)
    return dict(zip(budgets, planned, strict=True))


def expected_accuracy(hits: BoolArray, psi: FloatArray) -> float:
    """Return the attacker's accuracy under the mechanism, in [0, 1].

    The mean over users of ``sum over t of Psi_t [A(x_hat_t) = y]``, of arrays of shape
    (users, targets).
    """
    return float((psi * hits).sum(axis=1).mean())


def chance_right(
    guess: Guess, records: Records, labels: IntArray, *, releases: Mapping[float, Releases]
) -> dict[float, FloatArray]:
    """Return at each budget the chance that an attacker is right about each user.

    Arrays of shape (users,), in [0, 1]. Budgets that share candidates ask about them once.
    """
    shared = {id(each.candidates): each.candidates for each in releases.values()}
    right = {key: hits(guess, records, labels, each) for key, each in shared.items()}
    return {
        budget: (each.psi * right[id(each.candidates)]).sum(axis=1)
        for budget, each in releases.items()
    }


def attack_accuracy(
    guess: Guess, records: Records, labels: IntArray, *, releases: Mapping[float, Releases]
) -> dict[float, float]:
    """Return an attacker's expected accuracy at each budget, the mean of `chance_right`."""
    right = chance_right(guess, records, labels, releases=releases)
    return {budget: float(chances.mean()) for budget, chances in right.items()}


def sample(releases: Releases, records: Records, seed: int) -> Records:
    """Return one release of each record, drawn from the mechanism; type and dtype as given."""
    chance = generator(seed, "release").random(len(releases.psi))
    return releases.candidates.apply(records, choose(releases.psi, chance))


def protection(release: Callable[[Records], Releases]) -> Protect:
    """Return the defense as an attacker runs it, under a fresh key for each seed.

    The releases of the last records are kept: more draws for the same ones cost no search.
    """
    last: list[tuple[Records, Releases]] = []

    def protect(records: Records, seed: int) -> Records:
        if not last or last[0][0] is not records:
            last[:] = [(records, release(records))]
        return sample(last[0][1], records, seed)

    return protect


def bundle_protection(bundle: Bundle, budget: float) -> Protect:
    """Return an attribute bundle's defense at one budget, as an attacker runs it."""

    def release(records: Records) -> Releases:
        return releases_by_budget(
            bundle.network,
            records,
            prior=np.asarray(bundle.prior),
            budgets=[budget],
            settings=bundle.settings,
        )[budget]

    return protection(release)


def random_noise(candidates: Candidates, records: Records, seed: int) -> Candidates:
    """Return a control: as many changes in every candidate, but of random features.

    Features are drawn uniformly, without repetition; absent entries become 1 and present ones 0.
    So every cost is equal, every psi stays valid, and only the choice of the features differs;
    a bundle's rules do not bind the control.
    ``reached`` says no more than what the defense model said before.
    """
    rng = generator(seed, "random noise")
    pair = np.repeat(np.arange(candidates.reached.size), np.diff(candidates.start))
    keys = pair * records.shape[1]
    drawn = keys + rng.integers(records.shape[1], size=len(keys))
    while True:
        drawn.sort()  # within pairs: their keys do not overlap
        again = np.flatnonzero(drawn[1:] == drawn[:-1])
        if not len(again):
            break
        drawn[again] = keys[again] + rng.integers(records.shape[1], size=len(again))
    feature = drawn - keys
    before = entries(records, pair // candidates.reached.shape[1], feature)
    return replace(
        candidates,
        feature=feature,
        value=(before == 0).astype(np.float32),
        reached=candidates.label[:, None] == candidates.targets,
    )


def attack_file(records: Path, labels: Path, *, build: Path) -> dict[str, Any]:
    """Let the attack model of a finished build guess the attribute of the users in a file.

    Parameters
    ----------
    records, labels
        The users, and their true attributes, one a line, by the names that the build's bundles
        hold; see `privet.jobs.attribute_audit.audit_attribute_data`.
    build
        The folder of a finished ``privet protect build`` of attribute protection.

    Returns
    -------
    The number of ``users``, the attack's ``accuracy`` in [0, 1], and its Clopper-Pearson
    interval, ``low`` to ``high``.

    Raises
    ------
    DataError
        When the build is not finished, or the files do not fit it or each other.
    """
    finished = read_run(build, "protect").recall("attacker")
    if finished is None or finished[0]["architecture"]["outputs"] == 1:
        raise DataError(f"{build} holds no attack model of a finished attribute protection build")
    architecture = FullyConnected(**finished[0]["architecture"])
    attacker = architecture.build()
    load_weights(attacker, finished[1])
    features, classes = architecture.inputs, architecture.outputs
    feature_names, class_names = names_in(build, features=features, classes=classes)
    ratings = read_records(records, features=features, names=feature_names)
    truth = read_truth(labels, classes=classes, names=class_names)
    if len(truth) != ratings.shape[0]:
        raise DataError(f"{records} has {ratings.shape[0]} users and {labels} {len(truth)} labels")
    right = int((guesses(attacker, ratings) == truth).sum())
    low, high = clopper_pearson(right, len(truth))
    return {"users": len(truth), "accuracy": right / len(truth), "low": low, "high": high}
