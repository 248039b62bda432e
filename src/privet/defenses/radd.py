"""Risk-aware distillation: what is easily memorized learns less often, and from the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from privet import query
from privet.defenses.base import check_at_least
from privet.defenses.wemem import memorization_of
from privet.errors import OptionError
from privet.fit import Pass, Setup, Step


@dataclass(frozen=True)
class RADD:
    """Distill the risky samples from the unpruned network, and show them in some epochs only.

    In the manner of RADD (2026), WeMem's successor, of which only a summary was at hand: risky
    samples have an exposure budget, learn from the unpruned network instead of from their label,
    and an entropy term keeps the network unsure about them. The exact formulas here are ours.

    Parameters
    ----------
    threshold
        Quantile of the memorization scores, in [0, 1], from which on samples are risky.
    exposure
        Share of a round's epochs that show a risky sample, in (0, 1], in turns.
    temperature
        Flattens the unpruned network's posterior, at least 1.
    entropy
        Weight of the entropy reward on risky samples, at least 0.
    """

    threshold: float = 0.2
    exposure: float = 0.5
    temperature: float = 2.0
    entropy: float = 0.1

    paper: ClassVar[str] = "RADD: risk-aware distillation for iterative pruning, 2026"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        if not (0 <= self.threshold <= 1 and 0 < self.exposure <= 1):
            raise OptionError(
                f"RADD needs threshold in [0, 1] and exposure in (0, 1]; got {self.threshold} "
                f"and {self.exposure}"
            )
        check_at_least("temperature", self.temperature, 1)
        check_at_least("entropy", self.entropy, 0)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""
        if setup.dense is None:
            raise OptionError("RADD learns from the unpruned network: setup.dense is missing")
        scores = memorization_of(setup)
        risky = torch.from_numpy(scores >= np.quantile(scores, self.threshold))
        taught = (query.logits(setup.dense, setup.inputs) / self.temperature).softmax(1)
        turn = torch.arange(len(risky), dtype=torch.float64)

        def passes(epoch: int) -> Sequence[Pass]:
            # A sample shows whenever its running total of exposure passes a whole number.
            now = turn + epoch + setup.first_epoch
            shown = ~risky | (((now + 1) * self.exposure).floor() > (now * self.exposure).floor())
            return [
                replace(each, indices=each.indices[shown[each.indices]])
                for each in setup.epoch_passes(epoch)
            ]

        def loss(step: Step) -> Tensor:
            at_risk = risky[step.indices]
            log_posterior = step.logits.log_softmax(1)
            hard = cross_entropy(step.logits, step.labels, reduction="none")
            soft = -(taught[step.indices] * log_posterior).sum(1)
            unsure = -(log_posterior.exp() * log_posterior).sum(1)
            return torch.where(at_risk, soft - self.entropy * unsure, hard).mean()

        return replace(setup, passes=passes, loss=loss)
