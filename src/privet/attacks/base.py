"""What every attack is: a frozen dataclass with options, a citation, and one method."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from privet.signals import BoolArray, Evidence, FloatArray


@dataclass(frozen=True, eq=False)
class Verdict:
    """An attack's answer on the audit pool.

    Parameters
    ----------
    scores
        Shape (samples,); higher means more likely a member.
    threshold
        Shape (samples,) or a number: the attack's own decision rule, learned on shadow models.
        None for an attack that only ranks.
    """

    scores: FloatArray
    threshold: FloatArray | float | None = None

    @property
    def decisions(self) -> BoolArray | None:
        """Shape (samples,): accused of membership; None without a decision rule."""
        return None if self.threshold is None else np.asarray(self.scores >= self.threshold)


class Attack(Protocol):
    """A membership inference attack."""

    @property
    def paper(self) -> str:
        """The publication that the attack comes from."""

    @property
    def needs(self) -> Set[str]:
        """A part of `NEEDS`: what the evidence must hold (`privet.signals.Evidence.holds`)."""

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score every sample of the audit pool, from the evidence alone."""


PACKAGES = {
    "torch": "the package torch (pip install 'privet[train]')",
    "sklearn": "the package scikit-learn (pip install 'privet[train]')",
}
"""Packages beyond the base install that an attack may need, in words."""

NEEDS = PACKAGES | {
    "shadow": "shadow models, with samples whose membership is known",
    "reference": "reference models' signals on the audited samples",
    "online": "reference models that trained on some of the audited samples",
    "sensitivity": "sensitivities of the target and the shadow models",
    "robustness": "robustness of the target's and the shadow models' predictions to noise",
    "releases": "signals of another release of the same target",
}
"""Everything an attack may need, in words."""
