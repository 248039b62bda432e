"""ADV (Nasr, Shokri & Houmansadr, CCS 2018): train against an attacker trained alongside."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from privet import query
from privet.defenses.base import check_at_least
from privet.errors import OptionError
from privet.fit import Dense, Setup, Step, seeded
from privet.models import FullyConnected
from privet.seeds import derive

HIDDEN = (128, 64)


@dataclass(frozen=True)
class ADV:
    """Adversarial regularization: a min-max game against an inference network (Algorithm 1).

    In each step the inference network h first learns to tell the batch, which are members, from
    as many random samples of `Setup.dev`, which are not; the classifier then descends
    ``cross-entropy + weight * mean(log h(members))``.

    Parameters
    ----------
    weight
        Of the attacker's gain, at least 0. Published for pruning: 1, 2, 4 and 8; the default is
        one in the middle.
    inference_rate
        Learning rate of the inference network's Adam, above 0; published 1e-3.

    Notes
    -----
    Decisions: the inference network reads (posterior, one-hot label) through hidden layers of 128
    and 64 units; the paper's has two branches and up to 1,024 units, which would take longer to
    train than the classifier. It takes one step for each of the classifier's, and learns on
    posteriors of the network in evaluation mode: in training mode dropout and batch statistics
    would tell members from nonmembers where no attacker sees them. It starts afresh each round,
    from weights that depend on `Setup.first_epoch` alone, so that a resumed run agrees with an
    unbroken one.
    """

    weight: float = 2.0
    inference_rate: float = 1e-3

    paper: ClassVar[str] = (
        "Nasr, Shokri & Houmansadr, Machine Learning with Membership Privacy using Adversarial "
        "Regularization, CCS 2018"
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        check_at_least("weight", self.weight, 0)
        if not 0 < self.inference_rate < 1:
            raise OptionError(f"inference_rate must lie in (0, 1); got {self.inference_rate}")

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`.

        Raises
        ------
        OptionError
            Without nonmembers in `Setup.dev`.
        """
        if setup.dev is None or not len(setup.dev[1]):
            raise OptionError(
                "adversarial regularization trains an attacker on nonmembers: setup.dev is missing"
            )
        nonmembers = setup.dev
        classes = query.logits(setup.model, setup.inputs[:1]).shape[1]
        with seeded(derive(setup.first_epoch, "inference network")):
            attacker = FullyConnected(2 * classes, HIDDEN, 1).build()
        learner = torch.optim.Adam(attacker.parameters(), lr=self.inference_rate, fused=True)

        def loss(step: Step) -> Tensor:
            learner.zero_grad()
            inference_loss(attacker, step, nonmembers).backward()  # type: ignore[no-untyped-call]
            learner.step()
            gain = logsigmoid(attacker(_evidence(step.logits, step.labels))).mean()
            return setup.loss(step) + self.weight * gain

        return replace(setup, loss=loss)


def inference_loss(attacker: nn.Module, step: Step, nonmembers: Dense) -> Tensor:
    """Return what the attacker descends: minus its mean log-likelihood on both sides.

    As many nonmembers as the batch has members are drawn, with repetition, by torch's generator.
    """
    inputs, labels = nonmembers
    drawn = torch.randint(len(labels), (len(step.labels),))
    with query.evaluating(step.model):
        member = _evidence(step.model(step.inputs), step.labels)
        nonmember = _evidence(step.model(inputs[drawn]), labels[drawn])
    return -(logsigmoid(attacker(member)).mean() + logsigmoid(-attacker(nonmember)).mean())


def _evidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Return what the attacker sees of samples; shape (samples, 2 * classes)."""
    return torch.cat([logits.softmax(1), one_hot(labels, logits.shape[1])], dim=1)
