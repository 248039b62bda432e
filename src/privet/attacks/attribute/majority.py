"""The baseline that looks at no record."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from privet.attacks.attribute.base import Guess, Known


@dataclass(frozen=True)
class Majority:
    """Always guess the most common attribute (BA-A): what can be had without any record."""

    paper: str
    needs_protection: ClassVar[bool] = False

    def fit(self, known: Known, *, seed: int) -> Guess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        common = int(np.bincount(known.labels, minlength=known.classes).argmax())
        return lambda asked: np.full(asked.shape[0], common)
