"""What one comparison says."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

LARGEST = 1e-6
"""Largest difference of scores that count as equal."""


@dataclass(frozen=True)
class Row:
    """One comparison; ``equal`` is None where nothing need be equal."""

    what: str
    found: str
    equal: bool | None = None


def same(what: str, ours: np.ndarray, theirs: np.ndarray) -> Row:
    """Compare scores that must be equal."""
    largest = float(np.abs(ours - theirs).max())
    return Row(what, f"largest difference {largest:.1e}", equal=largest <= LARGEST)


def alike(what: str, ours: np.ndarray, theirs: np.ndarray) -> Row:
    """Compare scores of different definitions."""
    return Row(what, f"rank correlation {spearmanr(ours, theirs).statistic:.3f}")
