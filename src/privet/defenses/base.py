"""What every defense is."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from privet.fit import Setup


class Defense(Protocol):
    """Changes how a network is fine-tuned, so that it gives less away about its training data."""

    @property
    def paper(self) -> str:
        """The publication that the defense comes from."""

    @property
    def needs_scores(self) -> bool:
        """Whether ``setup.scores`` must hold memorization scores."""

    def start(self, setup: Setup) -> Setup:
        """Return the setup for one round of fine-tuning.

        It may change which samples each epoch sees, their weight decay, the optimizer and the
        loss. Called once a round; state lives in closures, never on the defense itself.
        """


@dataclass(frozen=True)
class Undefended:
    """Plain fine-tuning: what every defense is compared with."""

    paper: ClassVar[str] = "no defense"
    needs_scores: ClassVar[bool] = False

    def start(self, setup: Setup) -> Setup:
        """Return ``setup`` unchanged."""
        return setup
