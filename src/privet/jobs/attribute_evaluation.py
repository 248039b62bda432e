"""How well an attack model guesses the attribute of protected users (SP-ASPP, section 5.2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from privet.attacks.attribute import Records, guesses
from privet.data.tables import read_labels, read_scores
from privet.device import Network
from privet.device.attribute import search
from privet.device.mechanism import least_divergence
from privet.errors import DataError
from privet.jobs.stages import read_run
from privet.metrics import clopper_pearson
from privet.models import FullyConnected, load_weights
from privet.progress import track
from privet.signals import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Outcome:
    """One defense model's candidates for some users, and what an attacker makes of them.

    Parameters
    ----------
    costs
        Shape (users, targets): changed entries of each candidate.
    reached
        Shape (users, targets): whether the defense model says the target.
    hits
        Shape (users, targets): whether the attacker guesses the user's attribute from it.
    """

    costs: IntArray
    reached: BoolArray
    hits: BoolArray

    def attack_accuracy(self, prior: FloatArray, budget: float) -> float:
        """Return the attacker's expected accuracy under the mechanism, without sampling noise.

        The mean over users of ``sum over t of Psi_t [A(x_hat_t) = y]``, in [0, 1].
        """
        psi = least_divergence(prior, self.costs, budget)
        return float((psi * self.hits).sum(axis=1).mean())

    def by_budget(self, prior: FloatArray, budgets: Sequence[float]) -> dict[str, float]:
        """Return the attack accuracy at each budget."""
        return {f"{budget:g}": self.attack_accuracy(prior, budget) for budget in budgets}

    def first(self, users: int) -> "Outcome":
        """Return the outcome for the first users only."""
        return Outcome(self.costs[:users], self.reached[:users], self.hits[:users])


def attack_protected(
    defense: Network, attacker: nn.Module, records: Records, labels: IntArray, *, max_steps: int
) -> Outcome:
    """Search all candidates of some users (Algorithm 1) and let an attacker guess from each."""
    candidates = search(defense, records, max_steps=max_steps)
    columns = track(range(candidates.reached.shape[1]), "attacking every candidate")
    hits = [
        guesses(attacker, candidates.apply(records, np.full(len(labels), column))) == labels
        for column in columns
    ]
    return Outcome(candidates.cost, candidates.reached, np.stack(hits, axis=1))


def attack_file(records: Path, labels: Path, *, build: Path) -> dict[str, Any]:
    """Let the attack model of a finished build guess the attribute of the users in a file.

    Parameters
    ----------
    records, labels
        ``app:score`` text, a user a line, and the users' true attributes, a number a line.
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
    ratings = read_scores(records, features=architecture.inputs)
    truth = read_labels(labels, classes=architecture.outputs)
    if len(truth) != ratings.shape[0]:
        raise DataError(f"{records} has {ratings.shape[0]} users and {labels} {len(truth)} labels")
    right = int((guesses(attacker, ratings) == truth).sum())
    low, high = clopper_pearson(right, len(truth))
    return {"users": len(truth), "accuracy": right / len(truth), "low": low, "high": high}
