"""What every attack is: a frozen dataclass with options, a citation, and one method."""

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

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score every sample of the audit pool, from the evidence alone."""
