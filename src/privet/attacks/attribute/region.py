"""Region-based classification: a network is asked about a record's neighbors, and they vote."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from privet.attacks.attribute.base import Known, Records, Rows, hold_out
from privet.attacks.attribute.networks import NeuralNetwork, guesses
from privet.seeds import generator
from privet.signals import BoolArray, IntArray

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class RegionVoting:
    """Guess what a network guesses about most neighbors of a record (RC-A).

    Cao & Gong draw neighbors uniformly from a hypercube around the input, and choose the longest
    one with which the votes are as accurate on held-out samples as the network itself.
    **Deviation**: a hypercube around sparse ratings holds nothing like a record. Our neighbors
    lack each of the record's entries with a probability, the *rate*, and have, rated 1, about
    as many others, drawn by how often the known users rate them. All records are changed in the
    same ways, so that a guess depends on the record alone.

    Parameters
    ----------
    network
        What is asked.
    neighbors
        Number of votes; ties go to the lowest attribute.
    rates
        To choose from: the largest that costs no accuracy on the held-out users, else the
        smallest.
    dev_share
        Share of the known users held out for that, who also stop the network's training.
    """

    paper: str
    network: NeuralNetwork
    neighbors: int = 25
    rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
    dev_share: float = 0.1
    needs_protection: ClassVar[bool] = False

    def fit(self, known: Known, *, seed: int) -> "RegionGuess":
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        held, rest = hold_out(len(known.labels), self.dev_share, seed, what="the known data")
        records, labels = known.records[held], known.labels[held]
        train = known.records[rest], known.labels[rest]
        model = self.network.learn(train, known, dev=(records, labels), seed=seed).model
        alone = (guesses(model, records) == labels).mean()
        options = [self._guess(model, known, rate=rate, seed=seed) for rate in sorted(self.rates)]
        as_good = [each for each in options if (each(records) == labels).mean() >= alone]
        return (as_good or options[:1])[-1]

    def _guess(self, model: "nn.Module", known: Known, *, rate: float, seed: int) -> "RegionGuess":
        rng = generator(seed, "neighbors")
        users, features = known.records.shape
        often = np.asarray((known.records != 0).sum(axis=0)).ravel().astype(np.float64)
        added = round(rate * often.sum() / users)
        often += not often.any()  # nobody has anything: then nothing is added
        drawn = [
            Change(
                kept=rng.random(features) >= rate,
                added=rng.choice(features, added, replace=False, p=often / often.sum()),
            )
            for _ in range(self.neighbors)
        ]
        return RegionGuess(model, tuple(drawn), known.classes)


@dataclass(frozen=True, eq=False)
class Change:
    """What makes a record its neighbor.

    Parameters
    ----------
    kept
        Shape (features,): entries that stay as they are; the others become 0.
    added
        Features that become 1, kept or not.
    """

    kept: BoolArray
    added: Rows

    @property
    def untouched(self) -> BoolArray:
        """Shape (features,): entries that the neighbor shares with the record."""
        untouched = self.kept.copy()
        untouched[self.added] = False
        return untouched

    def __call__(self, records: Records) -> Records:
        """Return each record's neighbor, in the layout of ``records``."""
        kept = self.untouched
        if isinstance(records, np.ndarray):
            neighbors = np.where(kept, records, np.float32(0))
            neighbors[:, self.added] = 1
            return neighbors
        from scipy import sparse

        users = records.shape[0]
        left = sparse.csr_array(records)
        left.data = left.data * kept[left.indices]
        starts = np.arange(users + 1) * len(self.added)
        parts = np.ones(starts[-1], np.float32), np.tile(np.sort(self.added), users), starts
        return left + sparse.csr_array(parts, shape=records.shape)


@dataclass(frozen=True, eq=False)
class RegionGuess:
    """The attribute that a network gives to most neighbors of a record (a `Guess`)."""

    model: "nn.Module"
    changes: tuple[Change, ...]
    classes: int

    def __call__(self, records: Records) -> IntArray:
        """Return the guess about each record; shape (users,)."""
        return self.vote([guesses(self.model, change(records)) for change in self.changes])

    def vote(self, said: list[IntArray]) -> IntArray:
        """Return the most common of what the network said about each neighbor, elementwise."""
        counts = np.stack(
            [np.sum([each == c for each in said], axis=0) for c in range(self.classes)]
        )
        return np.asarray(counts.argmax(axis=0))
