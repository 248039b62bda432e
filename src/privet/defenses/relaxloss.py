"""RelaxLoss (Chen, Yu & Fritz, ICLR 2022): hold the training loss at a level above zero."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from privet.defenses.base import check_at_least
from privet.fit import Setup, Step


@dataclass(frozen=True)
class RelaxLoss:
    """Alternate between a target level of the mean loss and a flat posterior (Algorithm 1).

    In even epochs a step descends ``|mean loss - alpha|``, which ascends once the loss is below
    alpha. In odd epochs it descends the loss while that is above alpha; below, it descends
    `flattening`, which leaves the confidence in the true class as it is and evens out the others.

    Parameters
    ----------
    alpha
        The level of the mean cross-entropy, at least 0; published for pruning: 1.
    whole
        Whether to train so before pruning, too, as in RelaxLoss' own paper; by default the rounds
        only, as WeMem compares with it.

    Notes
    -----
    Decisions: epochs are counted on from round to round, so that a round which ends early does
    not upset their alternation. All samples of a batch are flattened, as in the paper and the
    authors' code for tables; their code for images flattens the misclassified only and ascends
    the loss of all. Its upper bound on the confidence (0.3 on Purchase) is left out.
    """

    alpha: float = 1.0
    whole: bool = False

    paper: ClassVar[str] = (
        "Chen, Yu & Fritz, RelaxLoss: Defending Membership Inference Attacks without Losing "
        "Utility, ICLR 2022"
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        check_at_least("alpha", self.alpha, 0)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""

        def loss(step: Step) -> Tensor:
            mean = setup.loss(step)
            if (setup.first_epoch + step.epoch) % 2 == 0:
                return (mean - self.alpha).abs()
            return mean if mean > self.alpha else flattening(step.logits, step.labels)

        return replace(setup, loss=loss)


def flattening(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy to flattened posteriors; logits of shape (n, classes).

    The target of each sample is its own confidence in the true class, and an equal share of the
    rest for every other class. It is a constant: no gradient flows through it.
    """
    true = labels.unsqueeze(1)
    with torch.no_grad():
        confidence = logits.softmax(1).gather(1, true)
        rest = (1 - confidence) / (logits.shape[1] - 1)
        target = rest.repeat(1, logits.shape[1]).scatter(1, true, confidence)
    return cross_entropy(logits, target)
