"""What a model reveals, and what an attacker may know: plain arrays, no torch.

`Signals` are the answers of one or more models on the same samples. `Evidence` is everything an
attack sees. The membership of the target's samples is deliberately *not* part of it: an attack
cannot cheat, not even by accident. Only `privet.metrics` meets that membership.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privet.errors import EvidenceError

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Signals:
    """Answers of one or more models on the same labelled samples.

    Parameters
    ----------
    logits
        Shape (models, samples, classes), finite: the outputs before softmax. Log-confidences do
        as well, since every attack depends on their softmax only.
    labels
        Shape (samples,), integers in ``0 .. classes - 1``: the true classes.

    Raises
    ------
    EvidenceError
        On wrong shapes, NaN or infinite logits, or labels out of range.
    """

    logits: FloatArray
    labels: IntArray

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or 0 in self.logits.shape:
            raise EvidenceError(
                f"logits must have shape (models, samples, classes), none empty; "
                f"got {self.logits.shape}"
            )
        if self.labels.shape != (self.logits.shape[1],):
            raise EvidenceError(
                f"labels must have shape ({self.logits.shape[1]},) to match the logits; "
                f"got {self.labels.shape}"
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise EvidenceError(f"labels must be integers; got {self.labels.dtype}")
        if not np.isfinite(self.logits).all():
            bad = int(np.count_nonzero(~np.isfinite(self.logits)))
            raise EvidenceError(f"{bad} logits are NaN or infinite; score a model that converged")
        classes = self.logits.shape[2]
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise EvidenceError(
                f"labels must lie in 0..{classes - 1} to index the logits; "
                f"got {self.labels.min()}..{self.labels.max()}"
            )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.logits.shape[2])

    def log_confidences(self) -> FloatArray:
        """Return log-softmax of the logits in float64; shape (models, samples, classes)."""
        logits = self.logits.astype(np.float64)
        logits -= logits.max(axis=2, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=2, keepdims=True))
        return logits


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything an attack may look at.

    Parameters
    ----------
    target
        One model's signals on the audit pool, members and nonmembers mixed: what is attacked.
    shadow
        The shadow models' signals on samples that the attacker owns. Shadow models are trained
        by the attacker to resemble the target; which samples they saw is known.
    shadow_members
        Shape (shadow models, shadow samples), bool: whether that model trained on that sample.

    Raises
    ------
    EvidenceError
        When the parts do not fit together, or a shadow model has no members or no nonmembers.
    """

    target: Signals
    shadow: Signals
    shadow_members: BoolArray

    def __post_init__(self) -> None:
        if self.target.logits.shape[0] != 1:
            raise EvidenceError(
                f"evidence is about one target model; got {self.target.logits.shape[0]}"
            )
        if self.target.classes != self.shadow.classes:
            raise EvidenceError(
                f"target and shadow models must share their classes; "
                f"got {self.target.classes} and {self.shadow.classes}"
            )
        if self.shadow_members.dtype != np.bool_:
            raise EvidenceError(f"shadow_members must be bool; got {self.shadow_members.dtype}")
        if self.shadow_members.shape != self.shadow.logits.shape[:2]:
            raise EvidenceError(
                f"shadow_members must have shape {self.shadow.logits.shape[:2]}; "
                f"got {self.shadow_members.shape}"
            )
        members = self.shadow_members.sum(axis=1)
        if (members == 0).any() or (members == self.shadow_members.shape[1]).any():
            raise EvidenceError("every shadow model needs both members and nonmembers")
