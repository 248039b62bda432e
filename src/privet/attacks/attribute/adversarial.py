"""Adversarial training: the attacker knows the defense, and practices on it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from privet.attacks.attribute.base import Known, Records
from privet.attacks.attribute.networks import NetworkGuess, NeuralNetwork
from privet.seeds import derive
from privet.signals import IntArray


@dataclass(frozen=True)
class AdversariallyTrained:
    """A network that learns from clean and from protected records of the known users (AT-A).

    The attacker runs the very defense, its secret key excepted, on those users. Where training
    stops early, it stops by both kinds of records of the users held out.

    Parameters
    ----------
    network
        The architecture, and how it is trained.
    draws
        Protected versions of each user's record, beside the clean one.
    """

    paper: str
    network: NeuralNetwork
    draws: int = 4
    needs_protection: ClassVar[bool] = True

    def fit(self, known: Known, *, seed: int) -> NetworkGuess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        seeds = [derive(seed, "protect", draw) for draw in range(self.draws)]
        versions = [known.records, *(known.protection(known.records, each) for each in seeds)]

        def every_version(users: IntArray) -> tuple[Records, IntArray]:
            records = stacked([version[users] for version in versions])
            return records, np.tile(known.labels[users], len(versions))

        held, rest = self.network.split(known, seed)
        dev = every_version(held) if len(held) else None
        return self.network.learn(every_version(rest), known, dev=dev, seed=seed)


def stacked(parts: list[Records]) -> Records:
    """Return records of one layout, one below the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy import sparse

    return sparse.vstack(parts, format="csr")
