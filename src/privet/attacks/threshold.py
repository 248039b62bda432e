"""Threshold attacks on one number a sample (Song & Mittal 2021, section 4).

Each attack reduces a posterior to one metric, oriented so that members score higher, and accuses
samples at or above a threshold learned on the shadow models: one threshold a class, or one for
all. The threshold maximizes *balanced* accuracy, so unequal numbers of members and nonmembers
cannot flatter it.
"""

from dataclasses import dataclass

import numpy as np

from privet.attacks.base import Verdict
from privet.signals import BoolArray, Evidence, FloatArray, IntArray, Metric, Signals


def confidence(signals: Signals) -> FloatArray:
    """Return the log true-class confidence; shape (models, samples), in (-inf, 0].

    The logarithm keeps the order of the confidence and does not saturate near one.
    """
    return _true_class(signals.log_confidences(), signals.labels)


def negative_entropy(signals: Signals) -> FloatArray:
    """Return minus the posterior's entropy, in nats; shape (models, samples)."""
    log_p = signals.log_confidences()
    return np.asarray((np.exp(log_p) * log_p).sum(axis=2))


def negative_modified_entropy(signals: Signals) -> FloatArray:
    """Return minus the modified entropy (Song & Mittal, equation 8); shape (models, samples).

    ``(1 - p_y) log p_y + sum over i != y of p_i log(1 - p_i)``: unlike the entropy, it is lowest
    for a prediction that is certain *and wrong*.
    """
    log_p = signals.log_confidences()
    # log(1 - p) through expm1 keeps its precision where p is tiny; p = 1 exactly is floored.
    log_not_p = np.log(np.maximum(-np.expm1(log_p), np.finfo(np.float64).tiny))
    terms = np.exp(log_p) * log_not_p
    others = terms.sum(axis=2) - _true_class(terms, signals.labels)
    own = np.exp(_true_class(log_not_p, signals.labels)) * _true_class(log_p, signals.labels)
    return np.asarray(own + others)


def top_confidence(signals: Signals) -> FloatArray:
    """Return the log confidence of the predicted class; shape (models, samples)."""
    return np.asarray(signals.log_confidences().max(axis=2))


@dataclass(frozen=True)
class Threshold:
    """Accuse samples whose metric reaches a threshold learned on the shadow models.

    Parameters
    ----------
    metric
        From signals to one number a model and sample; higher means more likely a member.
    per_class
        Whether each true class has a threshold of its own. A class without shadow members or
        without shadow nonmembers falls back on the threshold learned over all classes.
    paper
        The publication that the attack comes from.
    needs
        What the evidence must hold for the metric and the thresholds.
    """

    metric: Metric
    per_class: bool
    paper: str
    needs: frozenset[str] = frozenset({"shadow"})

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool; see `privet.attacks.Attack`."""
        shadow, members = evidence.known()
        known, scores = shadow.each(self.metric), self.metric(evidence.target)[0]
        overall = balanced_threshold(known.ravel(), members.ravel())
        if not self.per_class:
            return Verdict(scores, overall)
        thresholds = np.full(evidence.target.classes, overall)
        for label in np.unique(evidence.target.labels):
            of_class = shadow.labels == label
            inside = members[:, of_class].ravel()
            if inside.any() and not inside.all():
                thresholds[label] = balanced_threshold(known[:, of_class].ravel(), inside)
        return Verdict(scores, thresholds[evidence.target.labels])


@dataclass(frozen=True)
class AverageLoss:
    """Accuse samples whose loss is at most the average training loss (Yeom et al., adversary 2).

    The average is taken over the shadow models' members; without shadow models the attack only
    ranks. Scores are minus the cross-entropy, at most 0.
    """

    paper: str
    needs: frozenset[str] = frozenset()

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool; see `privet.attacks.Attack`."""
        scores = confidence(evidence.target)[0]
        if evidence.shadow is None:
            return Verdict(scores)
        shadow, members = evidence.known()
        return Verdict(scores, float(shadow.each(confidence)[members].mean()))


def balanced_threshold(scores: FloatArray, members: BoolArray) -> float:
    """Return the threshold with the best balanced accuracy for ``scores >= threshold``.

    It lies midway between two observed scores. "Accuse everyone" and "accuse no one" are among
    the choices, so a useless metric gets 0.5, never worse.
    """
    order = np.argsort(scores, kind="stable")
    ordered, is_member = scores[order], members[order]
    # Cutting before position i accuses ordered[i:].
    missed = np.concatenate([[0], np.cumsum(is_member)]) / members.sum()
    spared = np.concatenate([[0], np.cumsum(~is_member)]) / (~members).sum()
    possible = np.concatenate([[True], np.diff(ordered) > 0, [True]])
    cut = int(np.argmax(np.where(possible, spared - missed, -np.inf)))
    if cut == 0:
        return -np.inf
    if cut == len(ordered):
        return np.inf
    return float((ordered[cut - 1] + ordered[cut]) / 2)


def _true_class(values: FloatArray, labels: IntArray) -> FloatArray:
    return np.take_along_axis(values, labels[None, :, None], axis=2)[:, :, 0]
