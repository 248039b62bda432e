"""What a model reveals, and what an attacker may know: plain arrays, no torch.

`Signals` are the answers of one or more models on the same samples. `Evidence` is everything an
attack sees. The membership of the target's samples is deliberately *not* part of it: an attack
cannot cheat, not even by accident. Only `privet.metrics` meets that membership.
"""

from collections.abc import Callable
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

    Arrays may be memory-mapped: nothing here reads more than one model at a time.

    Parameters
    ----------
    logits
        Shape (models, samples, classes), finite: the outputs before softmax. Log-confidences do
        as well, since every attack depends on their softmax only.
    labels
        Shape (samples,), integers in ``0 .. classes - 1``: the true classes.
    sensitivity
        Shape (models, samples, classes), finite, at least 0: how much the posterior moves under
        tiny changes of the input (`privet.query.sensitivity`). None where nobody asked.
    robustness
        Shape (models, samples), in [0, 1]: how often the predicted class is the true one when the
        input is noisy (`privet.query.robustness`). None where nobody asked.

    Raises
    ------
    EvidenceError
        On wrong shapes, NaN or infinite values, or labels out of range.
    """

    logits: FloatArray
    labels: IntArray
    sensitivity: FloatArray | None = None
    robustness: FloatArray | None = None

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
        if not np.issubdtype(self.logits.dtype, np.floating):
            raise EvidenceError(f"logits must be floating-point; got {self.logits.dtype}")
        bad = _not_finite(self.logits)
        if bad:
            raise EvidenceError(f"{bad} logits are NaN or infinite; score a model that converged")
        classes = self.logits.shape[2]
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise EvidenceError(
                f"labels must lie in 0..{classes - 1} to index the logits; "
                f"got {self.labels.min()}..{self.labels.max()}"
            )
        self._check_extra("sensitivity", self.sensitivity, self.logits.shape, np.inf)
        self._check_extra("robustness", self.robustness, self.logits.shape[:2], 1.0)

    @property
    def models(self) -> int:
        """Number of models."""
        return int(self.logits.shape[0])

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

    def one(self, model: int) -> "Signals":
        """Return the answers of one model."""
        part = slice(model, model + 1)
        return Signals(
            self.logits[part],
            self.labels,
            None if self.sensitivity is None else self.sensitivity[part],
            None if self.robustness is None else self.robustness[part],
        )

    def each(self, metric: "Metric") -> FloatArray:
        """Return ``metric`` of every model, computed one model at a time; shape (models, samples).

        Whatever a metric needs on the way, memory holds it for a single model only.
        """
        return np.concatenate([metric(self.one(model)) for model in range(self.models)])

    def _check_extra(
        self, name: str, values: FloatArray | None, shape: tuple[int, ...], most: float
    ) -> None:
        if values is None:
            return
        if values.shape != shape:
            raise EvidenceError(f"{name} must have shape {shape}; got {values.shape}")
        if _not_finite(values) or any(v.min() < 0 or v.max() > most for v in values):
            raise EvidenceError(f"{name} must hold finite values in [0, {most:g}]")


Metric = Callable[[Signals], FloatArray]
"""From signals to one number a model and sample, shape (models, samples)."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything an attack may look at.

    The *audit pool* holds the samples in question, the target's members and nonmembers mixed.
    Shadow models are trained by the attacker to resemble the target; which samples they saw is
    known. They answer on samples of the attacker's own (``shadow``) and, for attacks that judge
    each sample by itself, on the audit pool too (``reference``).

    Parameters
    ----------
    target
        One model's signals on the audit pool: what is attacked.
    shadow
        The shadow models' signals on samples that the attacker owns.
    shadow_members
        Shape (shadow models, shadow samples), bool: whether that model trained on that sample.
    reference
        Models' signals on the audit pool: the shadow models once more, in the same order, or
        others like them.
    reference_members
        Shape (reference models, audit samples), bool. All false where the attacker does not own
        the audited samples (*offline*).
    population
        The target's signals on the shadow samples, where none of them can be a member.
    releases
        Evidence on other released versions of the same target, such as the network before it was
        pruned: same samples, same memberships.

    Raises
    ------
    EvidenceError
        When the parts do not fit together, or a shadow model has no members or no nonmembers.
    """

    target: Signals
    shadow: Signals | None = None
    shadow_members: BoolArray | None = None
    reference: Signals | None = None
    reference_members: BoolArray | None = None
    population: Signals | None = None
    releases: tuple["Evidence", ...] = ()

    def __post_init__(self) -> None:
        if self.target.models != 1:
            raise EvidenceError(f"evidence is about one target model; got {self.target.models}")
        self._check_models("shadow", self.shadow, self.shadow_members)
        self._check_models("reference", self.reference, self.reference_members)
        if self.shadow_members is not None:
            members = self.shadow_members.sum(axis=1)
            if (members == 0).any() or (members == self.shadow_members.shape[1]).any():
                raise EvidenceError("every shadow model needs both members and nonmembers")
        if self.reference is not None:
            _check_same(self.reference, self.target, "reference models and target")
        if self.population is not None:
            if self.shadow is None or self.population.models != 1:
                raise EvidenceError("population signals are one target's on the shadow samples")
            _check_same(self.population, self.shadow, "population and shadow signals")
        for other in self.releases:
            _check_same(other.target, self.target, "releases")

    @property
    def holds(self) -> frozenset[str]:
        """What attacks may need of this evidence, by the names in `privet.attacks.Attack.needs`."""
        shadow, target = self.shadow, self.target
        every = (target,) if shadow is None else (target, shadow)
        found = {
            "shadow": shadow is not None,
            "reference": self.reference is not None,
            "online": self.reference_members is not None and bool(self.reference_members.any()),
            "sensitivity": all(signals.sensitivity is not None for signals in every),
            "robustness": all(signals.robustness is not None for signals in every),
            "releases": bool(self.releases),
        }
        return frozenset(name for name, there in found.items() if there)

    def known(self) -> tuple[Signals, BoolArray]:
        """Return the shadow models' signals and memberships; `EvidenceError` without any."""
        if self.shadow is None or self.shadow_members is None:
            raise EvidenceError("this attack learns from shadow models, and the evidence has none")
        return self.shadow, self.shadow_members

    def calibration(self) -> tuple[Signals, BoolArray]:
        """Return the reference models' signals and memberships; `EvidenceError` without any."""
        if self.reference is None or self.reference_members is None:
            raise EvidenceError(
                "this attack needs reference models' signals on the audited samples, and the "
                "evidence has none"
            )
        return self.reference, self.reference_members

    def _check_models(self, name: str, signals: Signals | None, members: BoolArray | None) -> None:
        if signals is None or members is None:
            if (signals is None) != (members is None):
                raise EvidenceError(
                    f"{name} signals and {name}_members come together or not at all"
                )
            return
        if signals.classes != self.target.classes:
            raise EvidenceError(
                f"target and {name} models must share their classes; "
                f"got {self.target.classes} and {signals.classes}"
            )
        if members.dtype != np.bool_:
            raise EvidenceError(f"{name}_members must be bool; got {members.dtype}")
        if members.shape != signals.logits.shape[:2]:
            raise EvidenceError(
                f"{name}_members must have shape {signals.logits.shape[:2]}; got {members.shape}"
            )


def _check_same(one: Signals, other: Signals, what: str) -> None:
    if one.classes != other.classes or not np.array_equal(one.labels, other.labels):
        raise EvidenceError(f"{what} must answer on the same samples with the same labels")


def _not_finite(values: FloatArray) -> int:
    return sum(int(np.count_nonzero(~np.isfinite(one))) for one in values)
