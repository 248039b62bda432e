"""Pruning: what to remove (`Pruner`), how fast (`schedule`), and the rounds (`iterate`).

To add a pruner: one file with a frozen dataclass that satisfies `Pruner`, one row in `PRUNERS`.
"""

from collections.abc import Mapping

from privet.pruning.base import Pruner, keep_at
from privet.pruning.magnitude import Magnitude
from privet.pruning.structural import Structural

__all__ = ["PRUNERS", "Pruner", "keep_at"]

PRUNERS: Mapping[str, Pruner] = {"magnitude": Magnitude(), "structural": Structural()}
"""Every pruner by the name that the command line uses."""
