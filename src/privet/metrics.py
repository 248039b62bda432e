"""Judging attacks: scores and decisions meet the true membership here, after the attack.

Attacks score, metrics judge. Higher scores mean "more likely a member" everywhere. Members are
the positive class: TPR is the share of members found, FPR the share of nonmembers accused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtri
from scipy.stats import binom, rankdata

from privet.errors import EvidenceError
from privet.signals import BoolArray, FloatArray

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Rate:
    """An estimated TPR at some FPR, with two 95 % intervals, all in [0, 1].

    The Clopper-Pearson interval ``low .. high``, which papers report, takes the threshold as
    given. But a threshold picked on few nonmembers has another FPR than its own sample says: at
    1 % of 1,000, that interval misses the TPR at a *true* FPR of 1 % about half the time.
    ``band_low .. band_high`` counts this in: the two distances add up as independent errors do
    (MOVER; Zou & Donner, Statistics in Medicine 2008).

    ``resolved`` is false where the sample has too few nonmembers for the FPR asked: fewer than
    one nonmember would be accused, so the figure says nothing. ``nonmembers_accused`` is how many
    stand behind the figure: those accused by the strictest threshold that reaches ``tpr``.
    """

    tpr: float
    low: float
    high: float
    band_low: float
    band_high: float
    resolved: bool
    nonmembers_accused: int


@dataclass(frozen=True)
class Judgement:
    """How well one attack tells members from nonmembers; rates in [0, 1].

    ``balanced_accuracy`` is that of the attack's own decisions, None for an attack that only
    ranks; 0.5 is guessing. ``auc`` is the probability that a random member outscores a random
    nonmember, ties counted half; ``auc_interval`` is its 95 % interval. ``roc`` holds the
    (fpr, tpr) corners of the empirical curve.
    """

    balanced_accuracy: float | None
    auc: float
    auc_interval: tuple[float, float]
    tpr_at_fpr: dict[float, Rate]
    members: int
    nonmembers: int
    roc: tuple[FloatArray, FloatArray]


def judge(
    scores: FloatArray,
    members: BoolArray,
    *,
    decisions: BoolArray | None = None,
    false_positive_rates: Sequence[float] = FALSE_POSITIVE_RATES,
) -> Judgement:
    """Judge one attack's scores (and decisions) against the true membership.

    Parameters
    ----------
    scores
        Shape (samples,), finite; higher means more likely a member.
    members
        Shape (samples,), bool: the truth. Both kinds must occur.
    decisions
        Shape (samples,), bool: the attack's own verdicts, where it has a decision rule.
    false_positive_rates
        Where the TPR is read off, each in (0, 1).

    Raises
    ------
    EvidenceError
        On shapes that disagree, scores that are not finite, or only one kind of sample.
    """
    _check(scores, members)
    fpr, tpr = roc_curve(scores, members)
    n_members, n_nonmembers = int(members.sum()), int((~members).sum())
    area = auc(scores, members)
    return Judgement(
        balanced_accuracy=None if decisions is None else balanced_accuracy(decisions, members),
        auc=area,
        auc_interval=auc_interval(area, n_members, n_nonmembers),
        tpr_at_fpr={
            alpha: _rate_at(alpha, (fpr, tpr), members=n_members, nonmembers=n_nonmembers)
            for alpha in false_positive_rates
        },
        members=n_members,
        nonmembers=n_nonmembers,
        roc=(fpr, tpr),
    )


def balanced_accuracy(decisions: BoolArray, members: BoolArray) -> float:
    """Return the mean of the true positive and the true negative rate; 0.5 is guessing."""
    return float((decisions[members].mean() + (~decisions[~members]).mean()) / 2)


def auc(scores: FloatArray, members: BoolArray) -> float:
    """Return the area under the ROC curve: the Mann-Whitney statistic, ties counted half."""
    ranks = rankdata(scores)
    n_members, n_nonmembers = members.sum(), (~members).sum()
    wins = ranks[members].sum() - n_members * (n_members + 1) / 2
    return float(wins / (n_members * n_nonmembers))


def auc_interval(
    area: float, members: int, nonmembers: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return an interval of the AUC, from it and the numbers of samples alone.

    Newcombe's (2006, part 2) method 5: Hanley & McNeil's variance, solved for the AUC as Wilson's
    interval is for a rate. So it has a width even where the AUC is 0 or 1, and suits groups of a
    few samples.
    """
    z = float(ndtri((1 + confidence) / 2))
    spread = (members + nonmembers) / 2 - 1

    def excess(true: float, seen: float) -> float:
        shape = 1 + spread * ((1 - true) / (2 - true) + true / (1 + true))
        deviation = math.sqrt(true * (1 - true) * shape / (members * nonmembers))
        return true + z * deviation - seen

    def lower(seen: float) -> float:
        # An AUC of 1 solves the equation too, but is not the solution looked for.
        return 0.0 if seen == 0 else float(brentq(excess, 0.0, min(seen, 1 - 1e-9), args=(seen,)))

    return lower(area), 1 - lower(1 - area)


def roc_curve(scores: FloatArray, members: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return the corners (fpr, tpr) of the empirical ROC curve, from (0, 0) to (1, 1).

    Each corner accuses everyone at or above one of the distinct scores, so tied samples are
    accused together.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    tpr = np.cumsum(members[order])[last_of_tie] / members.sum()
    fpr = np.cumsum(~members[order])[last_of_tie] / (~members).sum()
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])


def clopper_pearson(
    successes: int, trials: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson 1934) interval of a binomial rate."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = (
        1.0
        if successes == trials
        else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    )
    return low, high


def _rate_at(
    alpha: float, roc: tuple[FloatArray, FloatArray], *, members: int, nonmembers: int
) -> Rate:
    fpr, tpr = roc
    # The strictest honest reading: the best corner whose FPR does not exceed alpha.
    corner = int(np.argmax(tpr[fpr <= alpha]))
    found = float(tpr[corner])
    low, high = clopper_pearson(round(found * members), members)
    fewest, most = _accused(nonmembers, alpha)
    # Half a nonmember of slack: FPRs are rounded quotients.
    least = float(tpr[fpr * nonmembers < fewest - 0.5].max(initial=0.0))
    greatest = float(tpr[fpr * nonmembers < most + 0.5].max())
    return Rate(
        tpr=found,
        low=low,
        high=high,
        # Never inside the other interval, not by a rounding error either.
        band_low=min(low, max(0.0, found - math.hypot(found - low, found - least))),
        band_high=max(high, min(1.0, found + math.hypot(high - found, greatest - found))),
        resolved=alpha * nonmembers >= 1,
        nonmembers_accused=round(fpr[corner] * nonmembers),
    )


@cache
def _accused(nonmembers: int, alpha: float) -> tuple[int, int]:
    """Return how many nonmembers, at least and at most, the threshold with FPR alpha accuses.

    Their number is binomial; 2.5 % lies beyond either end.
    """
    accused = binom(nonmembers, alpha)
    return int(accused.ppf(0.025)), int(accused.isf(0.025))


def _check(scores: FloatArray, members: BoolArray) -> None:
    if scores.ndim != 1 or scores.shape != members.shape:
        raise EvidenceError(
            f"scores and members must be one-dimensional and alike; "
            f"got shapes {scores.shape} and {members.shape}"
        )
    if not np.isfinite(scores).all():
        raise EvidenceError(f"{int((~np.isfinite(scores)).sum())} scores are NaN or infinite")
    if members.dtype != np.bool_ or members.all() or not members.any():
        raise EvidenceError("judging needs at least one member and one nonmember (bool)")
