"""PPB (Yuan & Zhang, USENIX Security 2022): members and nonmembers alike in their confidence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import kl_div

from privet.defenses.base import check_at_least
from privet.fit import Setup, Step


@dataclass(frozen=True)
class PPB:
    """Pair-based posterior balancing: pull the sorted posteriors of pairs of samples together.

    The loss is ``cross-entropy + weight * divergence`` with `sorted_divergence`.

    Parameters
    ----------
    weight
        Of the divergence, at least 0. Published: 1, 2, 4, 8 and 16; the default is their middle.
    """

    weight: float = 4.0

    paper: ClassVar[str] = (
        "Yuan & Zhang, Membership Inference Attacks and Defenses in Neural Network Pruning, "
        "USENIX Security 2022"
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        check_at_least("weight", self.weight, 0)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""

        def loss(step: Step) -> Tensor:
            return setup.loss(step) + self.weight * sorted_divergence(step.logits)

        return replace(setup, loss=loss)


def sorted_divergence(logits: Tensor) -> Tensor:
    """Return the mean KL divergence between the sorted posteriors of a batch's two halves.

    Sample i of the first half is paired with sample i of the second; the direction is
    ``KL(second || first)``, as in the authors' code, and both halves receive gradients. In a
    batch of odd size the middle sample has no partner and is left out (the authors leave out the
    last: batches are shuffled, so that is the same); a lone sample diverges from nothing, 0.
    """
    half = len(logits) // 2
    if half == 0:
        return logits.sum() * 0
    ranked = logits.sort(dim=1, descending=True).values.log_softmax(1)
    return kl_div(ranked[:half], ranked[-half:], reduction="batchmean", log_target=True)
