"""Phase II with the attacker in mind: a mechanism that reckons with changes that do not carry over.

The paper's mechanism counts a candidate as a lie well told once the defense model says the target.
An attacker's model is another one and may still say the truth. Here every candidate stands for
what an attacker is believed to answer about it, a distribution over classes, and the mechanism
picks probabilities under which these answers, mixed, come closest to the prior. Where each
candidate is surely taken for its target this is the paper's equation (6).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from privet.device.matrices import one_for_each
from privet.device.mechanism import check_prior, least_divergence
from privet.device.network import Array, Float64, Ints
from privet.errors import DataError, OptionError

ROUNDS = 60
NEWTON = 4  # steps a round: the multiplier moves little from one round to the next
LEAST = 1e-100  # stands for 0 in divisors; its square is a number still


def least_divergence_of_answers(
    prior: ArrayLike, answers: Array, costs: ArrayLike, budget: ArrayLike, *, rounds: int = ROUNDS
) -> tuple[Ints, Float64]:
    """Choose few candidates, and probabilities, whose mixed answers are closest to ``prior``.

    Minimizes KL(prior || sum over c of psi_c answers_c), which is convex in psi, subject to
    ``sum(psi * costs) <= budget`` and ``sum(psi) = 1``, for each record, by expectation
    maximization: weigh each candidate by how much the prior wants its answers, then let
    `privet.device.mechanism.least_divergence` fit the weights to the budget. Some optimum needs no
    more candidates than there are classes (a mixture is a point in as many dimensions): after two
    thirds of the rounds as many are kept, after one third twice as many, and candidate 0 besides.
    These are first the one that gives most of each class's answers, lest a class that many share
    lose them all, then the likeliest.

    Parameters
    ----------
    prior
        Shape (classes,), or (n, classes): the label distribution that an attacker shall see.
        Where no candidate has any of the answers that it wants, it decides nothing.
    answers
        Shape (n, candidates, classes): what an attacker is believed to answer; rows sum to 1.
        Candidate 0 costs nothing.
    costs
        Shape (n, candidates), not negative. Infinite: there is no such candidate.
    budget
        One number above 0, or one a record: the largest expected cost.
    rounds
        Of expectation maximization. The divergence falls in each, but where candidates are left
        out.

    Returns
    -------
    The numbers of the candidates kept and their probabilities; both of shape (n, kept), the latter
    float64 with rows that sum to 1.

    Raises
    ------
    DataError
        When shapes disagree, the prior is no distribution, or candidate 0 costs something.
    OptionError
        On a budget that is not above 0.
    """
    answers = np.asarray(answers)
    c = np.asarray(costs, dtype=np.float64)
    if answers.ndim != 3 or c.shape != answers.shape[:2]:
        raise DataError(f"answers {answers.shape} and costs {c.shape} do not fit together")
    if c[:, 0].any() or not (c >= 0).all():
        raise DataError("candidate 0 must cost nothing, and no candidate less than that")
    beta = one_for_each(budget, len(c), "budget")
    if not (beta > 0).all():
        raise OptionError(f"budget must be above 0, the least budget; got {beta.min():g}")
    n, classes = len(c), answers.shape[2]
    wanted = np.broadcast_to(check_prior(prior, classes, n=n), (n, classes))
    there = np.isfinite(c)
    problem = _Problem(answers, np.where(there, c, 0.0), beta, wanted)
    weights, column = _shares(there.astype(np.float64)), np.tile(np.arange(c.shape[1]), (n, 1))
    for most in (2 * classes, classes):
        weights = problem.weigh(weights, rounds // 3)
        kept = _worth_keeping(weights, problem.answers, most)
        problem, column = problem.take(kept), np.take_along_axis(column, kept, axis=1)
        weights = _shares(np.take_along_axis(weights, kept, axis=1))
    weights = problem.weigh(weights, rounds - 2 * (rounds // 3))
    return column, least_divergence(weights, problem.costs, beta)


def _worth_keeping(weights: Float64, answers: Array, most: int) -> Ints:
    """Return candidate 0 and at most so many others, ascending; shape (n, kept)."""
    kept = min(weights.shape[1], most + 1)
    rank = weights.copy()
    best = (weights[:, :, None] * answers).argmax(axis=1)
    np.put_along_axis(rank, best, 1 + np.take_along_axis(weights, best, axis=1), axis=1)
    rank[:, 0] = np.inf
    # Stable, and so the same everywhere: ways that lead to the same record weigh the same.
    return np.asarray(np.sort(np.argsort(-rank, axis=1, kind="stable")[:, :kept], axis=1))


@dataclass(frozen=True, eq=False)
class _Problem:
    """What to mix, its costs, and the goal; see `least_divergence_of_answers`."""

    answers: Array
    costs: Float64
    budget: Float64
    prior: Float64

    def take(self, column: Ints) -> "_Problem":
        """Return the problem with some candidates of each record only."""
        answers = np.take_along_axis(self.answers, column[:, :, None], axis=1)
        return replace(self, answers=answers, costs=np.take_along_axis(self.costs, column, axis=1))

    def weigh(self, weights: Float64, rounds: int) -> Float64:
        """Improve weights, which `least_divergence` makes probabilities within budget."""
        relative = self.costs / np.maximum(self.budget, LEAST)[:, None]
        scale = np.full(len(weights), LEAST)
        for _ in range(rounds):
            scale = _scale(weights, relative, scale)
            psi = _shares(weights / _divisor(relative, scale))
            mixed = (psi[:, None] @ self.answers)[:, 0]
            ratio = np.divide(self.prior, mixed, out=np.zeros_like(mixed), where=mixed > LEAST)
            better = psi * (self.answers @ ratio[:, :, None])[:, :, 0]
            # No candidate has any of the answers that the prior wants: none is better.
            weights = _shares(np.where(better.any(axis=1, keepdims=True), better, psi))
        return weights


def _shares(weights: Float64) -> Float64:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _divisor(relative: Float64, scale: Float64) -> Float64:
    """Return ``1 + mu (c - budget)`` for a multiplier mu of ``(1 - scale) / budget``."""
    return scale[:, None] + (1 - scale)[:, None] * relative


def _scale(weights: Float64, relative: Float64, start: Float64) -> Float64:
    """Return the scale in (0, 1] at which ``weights / _divisor`` keeps to the budget, nearly.

    What is spent beyond the budget, times the scale, is a convex function of the scale and
    negative at 0: Newton's method overshoots the root once and then comes down to it.
    """
    scale = start
    for _ in range(NEWTON):
        divisor = _divisor(relative, scale)
        share = weights * (relative - 1) / divisor
        slope = (share * relative / divisor).sum(axis=1)
        step = scale * share.sum(axis=1) / np.where(slope > LEAST, slope, 1.0)
        scale = np.where(slope > LEAST, np.clip(scale - step, LEAST, 1.0), 1.0)
    return np.where((weights * (relative - 1)).sum(axis=1) <= 0, 1.0, scale)
