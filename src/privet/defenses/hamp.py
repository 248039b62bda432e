"""HAMP (Chen & Pattabiraman, NDSS 2024): less confident training, and answers that only rank."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from scipy.optimize import brentq
from scipy.special import entr
from torch import Tensor, nn
from torch.nn.functional import kl_div

from privet.defenses.base import check_at_least
from privet.errors import OptionError
from privet.fit import Setup, Step
from privet.seeds import derive

RANDOM_INPUTS = 1024


@dataclass(frozen=True)
class HAMP:
    """High-entropy soft labels, an entropy regularizer, and output modification.

    The loss is ``KL(soft label || answer) - entropy_weight * entropy(answer)``, each a mean over
    the batch, in nats. `serve` is the output modification.

    Parameters
    ----------
    entropy_threshold
        Entropy of the soft labels as a fraction of the most possible, log(classes), in [0, 1):
        the paper's gamma, published 0.5 for Location. 0 gives hard labels.
    entropy_weight
        The paper's alpha, at least 0. Published 0.001 for Location, beside a divergence that the
        authors' code also averages over the 30 classes; 0.03 is the same balance.
    whole
        Whether to train so before pruning, too: the default, as the paper trains from scratch.
        False limits it to the rounds.
    """

    entropy_threshold: float = 0.5
    entropy_weight: float = 0.03
    whole: bool = True

    paper: ClassVar[str] = (
        "Chen & Pattabiraman, Overconfidence is a Dangerous Thing: Mitigating Membership Inference "
        "Attacks by Enforcing Less Confident Prediction, NDSS 2024"
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        check_at_least("entropy_weight", self.entropy_weight, 0)
        if not 0 <= self.entropy_threshold < 1:
            raise OptionError(
                f"entropy_threshold must lie in [0, 1), since at 1 labels say nothing; "
                f"got {self.entropy_threshold}"
            )

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""

        def loss(step: Step) -> Tensor:
            answer = step.logits.log_softmax(1)
            entropy = -(answer.exp() * answer).sum(1).mean()
            labels = soft_labels(step.labels, answer.shape[1], threshold=self.entropy_threshold)
            return kl_div(answer, labels, reduction="batchmean") - self.entropy_weight * entropy

        return replace(setup, loss=loss)

    def serve(self, model: nn.Module) -> nn.Module:
        """Return ``model`` behind the output modification, `RankOnly`."""
        return RankOnly(model)


def soft_labels(labels: Tensor, classes: int, *, threshold: float) -> Tensor:
    """Return labels of entropy ``threshold * log(classes)``; shape (samples, classes).

    The true class gets `label_confidence`, the others share the rest equally.
    """
    confidence = label_confidence(classes, threshold)
    rest = (1 - confidence) / (classes - 1)
    soft = torch.full((len(labels), classes), rest, device=labels.device)
    return soft.scatter(1, labels.unsqueeze(1), confidence)


@lru_cache
def label_confidence(classes: int, threshold: float) -> float:
    """Return the true class's share p of a soft label with the wanted entropy, in (1/classes, 1].

    The entropy ``-p log p - (1 - p) log((1 - p) / (classes - 1))`` falls from log(classes) at
    p = 1/classes to 0 at p = 1, so p is the one root between. (The authors step p down by 0.01
    until the entropy suffices.)
    """

    def excess(p: float) -> float:
        entropy = entr(p) + entr(1 - p) + (1 - p) * math.log(classes - 1)
        return float(entropy - threshold * math.log(classes))

    return 1.0 if threshold == 0 else float(brentq(excess, 1 / classes, 1.0))


class RankOnly(nn.Module):
    """A network whose answers keep their order and nothing else: their values are another's.

    The largest logit takes the value of the largest logit of the network's answer to a random
    input, and so on down: predicted classes stay, confidences say nothing about the sample.

    The paper draws a fresh random input for each query. Here a sample always meets the same one,
    so that asking again averages nothing out: one of 1,024 fixed draws, uniform between the
    sample's own smallest and largest entry, picked by a hash of the sample's bits. Neither the
    batch it comes in nor torch's generator plays a part.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the reordered logits; shape (samples, classes)."""
        answers, others = self.model(inputs), self.model(random_inputs(inputs))
        order = answers.argsort(dim=1, descending=True, stable=True)
        return torch.empty_like(answers).scatter(1, order, others.sort(1, descending=True).values)


def random_inputs(inputs: Tensor) -> Tensor:
    """Return each sample's random input, dense, of the same shape; see `RankOnly`."""
    dense = inputs.to_dense() if inputs.layout == torch.sparse_csr else inputs
    rows = dense.flatten(1)
    keys, draws = _fixed_draws(rows.shape[1])
    # Multiply-shift hashing: the sum wraps around, and its upper bits are well mixed.
    bits = rows.float().contiguous().view(torch.int32).long()
    which = ((bits * keys.to(bits.device)).sum(1) >> 33) % RANDOM_INPUTS
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    drawn = draws.to(rows.device, rows.dtype)[which]
    return (low + (high - low) * drawn).view_as(dense)


@lru_cache(maxsize=4)
def _fixed_draws(features: int) -> tuple[Tensor, Tensor]:
    """Return odd keys to hash by, (features,), and uniform draws, (RANDOM_INPUTS, features)."""
    generator = torch.Generator().manual_seed(derive(0, "random inputs"))
    keys = torch.randint(2**62, (features,), generator=generator) * 2 + 1
    return keys, torch.rand(RANDOM_INPUTS, features, generator=generator)
