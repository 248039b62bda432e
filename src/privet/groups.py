"""Ways of dividing the audit pool, so that a harmless average cannot hide who is exposed.

No grouping looks at the target's membership: an attacker could form every one of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from privet.errors import EvidenceError
from privet.signals import BoolArray, Evidence, FloatArray, IntArray, Signals

CLASS = "class"
MEMORIZATION = "memorization"
CANARIES = "canaries"


@dataclass(frozen=True, eq=False)
class Grouping:
    """One way of dividing the audit pool into groups, each judged by itself.

    Parameters
    ----------
    kind
        What the samples are divided by: `CLASS`, `MEMORIZATION`, `CANARIES` or a name of yours.
    names
        A name for each group.
    group
        Shape (samples,), integers: each sample's position in ``names``, or -1 in no group.

    Raises
    ------
    EvidenceError
        When ``group`` is not one-dimensional and integer, or points outside ``names``.
    """

    kind: str
    names: tuple[str, ...]
    group: IntArray

    def __post_init__(self) -> None:
        if self.group.ndim != 1 or not np.issubdtype(self.group.dtype, np.integer):
            raise EvidenceError(
                f"the groups by {self.kind} must be integers of shape (samples,); "
                f"got {self.group.dtype} of shape {self.group.shape}"
            )
        if self.group.size and not -1 <= self.group.min() <= self.group.max() < len(self.names):
            raise EvidenceError(
                f"the groups by {self.kind} must lie in -1..{len(self.names) - 1}; "
                f"got {self.group.min()}..{self.group.max()}"
            )

    def each(self) -> Iterator[tuple[str, BoolArray]]:
        """Yield name and mask, shape (samples,), of every group that holds a sample."""
        for place, name in enumerate(self.names):
            inside = self.group == place
            if inside.any():
                yield name, inside


def by_class(labels: IntArray, names: Sequence[str] | None = None) -> Grouping:
    """Group by label; classes are called by their numbers where no ``names`` are given.

    Parameters
    ----------
    labels
        Shape (samples,), integers from 0: the labels that the target was asked to learn.
    names
        A name for each class.
    """
    known = tuple(str(label) for label in range(int(labels.max()) + 1 if labels.size else 0))
    return Grouping(CLASS, known if names is None else tuple(names), labels)


def by_quantile(values: FloatArray, *, kind: str = MEMORIZATION, parts: int = 4) -> Grouping:
    """Group by a number a sample into ``parts`` of about equal size, lowest first.

    Equal values stay together, so with many ties parts differ in size, or are empty; NaN is in
    no group.

    Parameters
    ----------
    values
        Shape (samples,), such as `estimated_memorization`.
    kind
        What the values are.
    parts
        At least two; four makes quartiles.
    """
    if parts < 2:
        raise EvidenceError(f"grouping by {kind} takes at least 2 parts; got {parts}")
    names = ("lowest", *(f"{place} of {parts}" for place in range(2, parts)), "highest")
    known = np.sort(values[~np.isnan(values)])
    # The largest value of every part but the last.
    ends = -(-len(known) * np.arange(1, parts) // parts) - 1
    cuts = known[ends] if len(known) else known
    group = np.where(np.isnan(values), -1, np.searchsorted(cuts, values))
    return Grouping(kind, names, group)


def canaries(planted: BoolArray) -> Grouping:
    """Group the planted canaries: one group, of members and nonmembers alike.

    Canaries are samples made to be memorized, mislabeled ones for example; some are given to the
    target to train on, the others are held out (Aerni et al., Evaluations of Machine Learning
    Privacy Defenses are Misleading, CCS 2024).

    Parameters
    ----------
    planted
        Shape (samples,), bool: whether the sample is a canary, trained on or held out.
    """
    return Grouping(CANARIES, ("planted",), np.where(planted, 0, -1))


def estimated_memorization(evidence: Evidence) -> FloatArray:
    """Estimate how strongly models memorize each audited sample if they train on it.

    The subsampled estimate of Feldman & Zhang (What Neural Networks Memorize and Why, NeurIPS
    2020, section 2): mean confidence in the true class over the reference models that trained on
    the sample, minus the mean over those that did not. Confidence stands for their probability
    of a correct answer: with few models it varies less. It tells about the sample, not about the
    target, whose answers and membership play no part.

    Returns
    -------
    Shape (samples,), in [-1, 1]: higher is more memorized. NaN where no reference model, or
    every one, trained on the sample; so all NaN offline.

    Raises
    ------
    EvidenceError
        Without reference models.
    """
    reference, members = evidence.calibration()
    confidences = reference.each(_confidence)
    with np.errstate(invalid="ignore"):
        inside = (confidences * members).sum(axis=0) / members.sum(axis=0)
        outside = (confidences * ~members).sum(axis=0) / (~members).sum(axis=0)
    return np.asarray(inside - outside)


def _confidence(signals: Signals) -> FloatArray:
    labels = signals.labels[None, :, None]
    return np.exp(np.take_along_axis(signals.log_confidences(), labels, axis=2)[:, :, 0])
