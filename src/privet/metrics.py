"""Judging attacks: scores and decisions meet the true membership here, after the attack.

Attacks score, metrics judge. Higher scores mean "more likely a member" everywhere. Members are
the positive class: TPR is the share of members found, FPR the share of nonmembers accused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv
from scipy.stats import rankdata

from privet.errors import EvidenceError
from privet.signals import BoolArray, FloatArray

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Rate:
    """An estimated rate with its Clopper-Pearson interval, all in [0, 1].

    ``resolved`` is false where the sample has too few nonmembers for the FPR asked: fewer than
    one nonmember would be accused, so the figure says nothing.
    """

    tpr: float
    low: float
    high: float
    resolved: bool


@dataclass(frozen=True)
class Judgement:
    """How well one attack tells members from nonmembers; rates in [0, 1].

    ``balanced_accuracy`` is that of the attack's own decisions, None for an attack that only
    ranks; 0.5 is guessing. ``auc`` is the probability that a random member outscores a random
    nonmember, ties counted half. ``roc`` holds the (fpr, tpr) corners of the empirical curve.
    """

    balanced_accuracy: float | None
    auc: float
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
    balanced = None if decisions is None else balanced_accuracy(decisions, members)
    rates = {
        alpha: _rate_at(alpha, fpr, tpr, n_members, n_nonmembers) for alpha in false_positive_rates
    }
    return Judgement(balanced, auc(scores, members), rates, n_members, n_nonmembers, (fpr, tpr))


def balanced_accuracy(decisions: BoolArray, members: BoolArray) -> float:
    """Return the mean of the true positive and the true negative rate; 0.5 is guessing."""
    return float((decisions[members].mean() + (~decisions[~members]).mean()) / 2)


def auc(scores: FloatArray, members: BoolArray) -> float:
    """Return the area under the ROC curve: the Mann-Whitney statistic, ties counted half."""
    ranks = rankdata(scores)
    n_members, n_nonmembers = members.sum(), (~members).sum()
    wins = ranks[members].sum() - n_members * (n_members + 1) / 2
    return float(wins / (n_members * n_nonmembers))


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
    alpha: float, fpr: FloatArray, tpr: FloatArray, n_members: int, n_nonmembers: int
) -> Rate:
    # The strictest honest reading: the best corner whose FPR does not exceed alpha. The
    # interval is that of the TPR at this corner; the threshold's own uncertainty is not in it.
    found = float(tpr[fpr <= alpha].max())
    low, high = clopper_pearson(round(found * n_members), n_members)
    return Rate(found, low, high, resolved=alpha * n_nonmembers >= 1)


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
