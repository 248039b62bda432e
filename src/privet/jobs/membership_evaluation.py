"""How well an attack model tells members from nonmembers by protected confidences (MemGuard)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from privet import query
from privet.device.membership import find_noise, release_probability
from privet.errors import DataError
from privet.fit import Dense
from privet.jobs.tiers import Trained, to_device
from privet.signals import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Observed:
    """What a classifier says of some samples.

    Parameters
    ----------
    logits
        Shape (n, k).
    members
        Shape (n,), bool: which samples it was trained on.
    labels
        Shape (n,): the true classes, for the attackers that know them.
    """

    logits: FloatArray
    members: BoolArray
    labels: IntArray | None = None

    def as_training_data(self) -> Dense:
        """Return confidences sorted ascending, in float32, and 1 for members, 0 for others."""
        posterior = torch.from_numpy(self.logits).double().softmax(1).sort(dim=1).values
        return posterior.float(), torch.from_numpy(self.members).long()

    def take(self, rows: IntArray) -> "Observed":
        """Return some rows."""
        labels = None if self.labels is None else self.labels[rows]
        return Observed(self.logits[rows], self.members[rows], labels)

    def truth(self) -> IntArray:
        """Return the true classes; `DataError` where nobody noted them."""
        if self.labels is None:
            raise DataError("attackers need the true labels of the samples; observe them too")
        return self.labels


def found_share(tier: Trained, vectors: Observed) -> float:
    """Return the share of vectors for which a tier finds noise; a dead tier finds none."""
    return float(find_noise(to_device(tier.model), vectors.logits).found.mean())


def attacked(
    defense: Trained, attacker: nn.Module, vectors: Observed, budgets: Sequence[float]
) -> dict[str, float]:
    """Return the attacker's expected accuracy at each budget, members and nonmembers together.

    The mean of ``(1 - p) hit(before) + p hit(after)``, with p the probability that the noise is
    added (MemGuard's phase II): no sampling noise.
    """
    noise = find_noise(to_device(defense.model), vectors.logits)
    before, after = (
        says_member(attacker, confidences) == vectors.members
        for confidences in (noise.before, noise.after)
    )
    figures = {}
    for budget in budgets:
        p = release_probability(noise, budget)
        figures[f"{budget:g}"] = float(((1 - p) * before + p * after).mean())
    return figures


def says_member(attacker: nn.Module, confidences: FloatArray) -> BoolArray:
    """Return whether an attack model takes each confidence vector for a member's; shape (n,)."""
    ascending = torch.from_numpy(np.sort(confidences, axis=1)).float()
    return (query.logits(attacker, ascending)[:, 0] > 0).numpy()
