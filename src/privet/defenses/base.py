"""What every defense is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import nn

from privet.errors import OptionError
from privet.fit import Setup

NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "scores": "memorization scores of the training samples (`Setup.scores`)",
        "soft labels": "what models that never met a sample make of it (`Setup.soft_labels`)",
    }
)
"""What a defense may need computed once a run, before any training."""


class Defense(Protocol):
    """Changes how a network is fine-tuned, so that it gives less away about its training data."""

    @property
    def paper(self) -> str:
        """The publication that the defense comes from."""

    @property
    def needs(self) -> frozenset[str]:
        """Which of `NEEDS` it needs."""

    @property
    def whole(self) -> bool:
        """Whether it shapes the training before pruning as well as the rounds.

        If so that training begins with fresh weights: a network that has met its data without
        the defense has memorized it already.
        """

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run should be like, as changes to the defaults of `jobs.PruneSettings`."""

    def start(self, setup: Setup) -> Setup:
        """Return the setup for one round of fine-tuning.

        It may change which samples each epoch sees, their weight decay, the optimizer and the
        loss. Called once a round; state lives in closures, never on the defense itself.
        """


@runtime_checkable
class Guarantees(Protocol):
    """A defense that can prove something."""

    def guarantee(self, *, samples: int, batch_size: int, epochs: int) -> dict[str, Any]:
        """Return what holds after so many epochs under the defense, as JSON-ready figures."""


@runtime_checkable
class Taught(Protocol):
    """A defense that needs soft labels, and says whose."""

    @property
    def teacher(self) -> Literal["auto", "centroids", "lda", "network"]:
        """Who teaches; see `privet.teachers`."""

    @property
    def folds(self) -> int:
        """In how many folds, at least two."""


@runtime_checkable
class Serves(Protocol):
    """A defense that also changes what a service shows of the trained network's outputs."""

    def serve(self, model: nn.Module) -> nn.Module:
        """Return the network as a service would answer with it."""


@dataclass(frozen=True)
class Undefended:
    """Plain fine-tuning in rounds: all epochs, neither early stopping nor weight decay."""

    paper: ClassVar[str] = "no defense"
    needs: ClassVar[frozenset[str]] = frozenset()
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {"patience": None, "weight_decay": 0.0}

    def start(self, setup: Setup) -> Setup:
        """Return ``setup`` unchanged."""
        return setup


@dataclass(frozen=True)
class Base:
    """Early stopping and weight decay: what the paper calls Base.

    Parameters
    ----------
    weight_decay
        Coupled L2 penalty on all weights in the rounds; published 5e-4. Larger ones are the plain
        alternative that any defense should beat.
    """

    weight_decay: float = 5e-4

    paper: ClassVar[str] = "Shang et al., WeMem, NDSS 2025 (Base); weight decay: Krogh & Hertz 1991"
    needs: ClassVar[frozenset[str]] = frozenset()
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        check_at_least("weight_decay", self.weight_decay, 0)

    def start(self, setup: Setup) -> Setup:
        """Return the setup with this weight decay; see `Defense`."""
        return replace(setup, weight_decay=self.weight_decay)


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise `OptionError` unless an option's value is finite and at least ``least``."""
    if not least <= value < math.inf:
        raise OptionError(f"{name} must be finite and at least {least:g}; got {value}")
