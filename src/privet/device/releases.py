"""Both phases of Algorithm 1 together: what may be released of each record, and how likely."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from privet.device.answers import least_divergence_of_answers
from privet.device.attribute import Candidates, search
from privet.device.matrices import Records, as_rows, one_for_each
from privet.device.mechanism import check_prior, least_divergence
from privet.device.network import Float64, Network
from privet.device.paths import search_paths
from privet.device.rules import Rules
from privet.device.settings import Settings

MAX_STEPS = 100  # the paper's maxiter
STOPS = 8  # on each way of the mechanism of answers


@dataclass(frozen=True, eq=False)
class Releases:
    """What may be released of each of n records at one budget, and with which probability.

    Parameters
    ----------
    candidates
        The possible releases.
    psi
        Shape (n, candidates): the probability of each; rows sum to 1.
    """

    candidates: Candidates
    psi: Float64

    @property
    def expected_cost(self) -> Float64:
        """Return the mean number of changed entries over the random choice; shape (n,)."""
        return np.asarray((self.psi * self.candidates.cost).sum(axis=1))


def plan_releases(
    network: Network,
    records: Records,
    *,
    prior: ArrayLike,
    budgets: Sequence[ArrayLike],
    settings: Settings,
    rules: Rules | None = None,
) -> list[Releases]:
    """Find candidates for all records, and the mechanism's probabilities at several budgets.

    Parameters
    ----------
    network
        The defense model; one output a class.
    records
        Shape (n, features), values in [0, 1]; dense or SciPy sparse.
    prior
        The label distribution to show to attackers, shape (classes,), or one a record.
    budgets
        Largest expected costs, above 0; each of them one number, or one a record.
    settings
        How to search and which mechanism; see `Settings`.
    rules
        The person's own, which go before those of the settings.

    Returns
    -------
    One for each budget. Budgets with equal margins share their candidates, and the search for
    them, unless the mechanism is that of answers, which searches once for all budgets.
    """
    n = as_rows(records, network.sizes[0]).shape[0]
    limits = [one_for_each(budget, n, "budget") for budget in budgets]
    wanted = check_prior(prior, network.sizes[-1], n=n)  # before the long search
    allowed = (rules or Rules()).over(settings.rules)
    if settings.mechanism == "answers":
        return _by_answers(
            network, records, prior=wanted, budgets=limits, settings=settings, rules=allowed
        )
    releases, found = [], {}
    for budget in limits:
        margin = settings.margin(budget)
        if (key := margin.tobytes()) not in found:
            steps = settings.max_steps or MAX_STEPS
            found[key] = search(network, records, max_steps=steps, margin=margin, rules=allowed)
        releases.append(Releases(found[key], least_divergence(wanted, found[key].cost, budget)))
    return releases


def _by_answers(
    network: Network,
    records: Records,
    *,
    prior: Float64,
    budgets: Sequence[Float64],
    settings: Settings,
    rules: Rules,
) -> list[Releases]:
    """Walk all ways once, a block of records at a time, and choose stops at every budget."""
    parts: list[list[Releases]] = [[] for _ in budgets]
    steps = settings.max_steps or STOPS
    for which, paths in search_paths(network, records, steps=steps, rules=rules):
        answers, costs = paths.answers(settings.temperature, settings.leak), paths.cost
        own = prior if prior.ndim == 1 else prior[which]
        for part, budget in zip(parts, budgets, strict=True):
            column, psi = least_divergence_of_answers(own, answers, costs, budget[which])
            part.append(Releases(paths.candidates(column), psi))
    return [_joined(part) for part in parts]


def _joined(parts: Sequence[Releases]) -> Releases:
    """Return the releases of several blocks of records as one."""
    blocks = [each.candidates for each in parts]
    starts = np.cumsum([0, *(block.start[-1] for block in blocks)])
    return Releases(
        Candidates(
            start=np.concatenate(
                [[0], *(block.start[1:] + at for block, at in zip(blocks, starts, strict=False))]
            ),
            feature=np.concatenate([block.feature for block in blocks]),
            value=np.concatenate([block.value for block in blocks]),
            label=np.concatenate([block.label for block in blocks]),
            targets=np.concatenate([block.targets for block in blocks]),
            reached=np.concatenate([block.reached for block in blocks]),
        ),
        np.concatenate([each.psi for each in parts]),
    )
