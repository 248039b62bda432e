"""Attacks that see predicted classes only, no confidences.

No protection of confidences touches them: they bound from below what a model leaks.
"""

from dataclasses import dataclass

import numpy as np

from privet.attacks.base import Verdict
from privet.errors import EvidenceError
from privet.signals import Evidence, FloatArray, Signals


def robustness(signals: Signals) -> FloatArray:
    """Return how often a noisy input is classified right; shape (models, samples), in [0, 1].

    Raises
    ------
    EvidenceError
        When nobody asked the models about noisy inputs.
    """
    if signals.robustness is None:
        raise EvidenceError("the signals hold no robustness; query it with privet.query.signals")
    return signals.robustness


@dataclass(frozen=True)
class CorrectnessGap:
    """Accuse the samples that are classified right (Yeom et al. 2018, section 3; the "gap attack").

    Needs no shadow models. Its balanced accuracy is ``1/2 + (train - test accuracy)/2``.
    """

    paper: str
    needs: frozenset[str] = frozenset()

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool; see `privet.attacks.Attack`."""
        target = evidence.target
        return Verdict((target.logits[0].argmax(axis=1) == target.labels).astype(float), 0.5)
