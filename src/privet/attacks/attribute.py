"""Attribute inference attacks: from users who tell an attribute to guesses about those who do not.

To add an attacker: write a frozen dataclass that satisfies `AttributeAttacker`, and give it a row
in `ATTRIBUTE_ATTACKERS` with its citation. Nothing heavy is imported before an attacker learns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privet.errors import DataError
from privet.progress import track
from privet.seeds import derive, generator
from privet.signals import IntArray

if TYPE_CHECKING:
    from torch import nn

    from privet.fit import Labelled, Setup
    from privet.models import FullyConnected
    from privet.sparse import Inputs

Records = Any
"""Shape (users, features), values in [0, 1]: a float32 array or a SciPy CSR matrix."""
Rows = NDArray[np.int64]
Guess = Callable[[Records], IntArray]
"""From records to the attribute of each user, shape (users,)."""


class AttributeAttacker(Protocol):
    """An attribute inference attack."""

    @property
    def paper(self) -> str:
        """The publication that the attack comes from."""

    def fit(self, records: Records, labels: IntArray, *, classes: int, seed: int) -> Guess:
        """Learn from users whose attribute is known, and return what guesses it of others.

        Parameters
        ----------
        records, labels
            The users' records, and their attributes in ``0 .. classes - 1``, at least two of which
            occur.
        seed
            Fixes everything that chance decides.
        """


@dataclass(frozen=True)
class NeuralNetwork:
    """A fully connected network with one hidden layer of ReLU units (NN-A).

    The very network that judges a build of attribute protection, and that its defense models
    are: from equal users and seeds it learns equal weights. Its training stops when the accuracy
    on held-out users stalls, where AttriGuard and SP-ASPP train for a fixed number of epochs and
    overfit. Adam replaces their stochastic gradient descent.

    Parameters
    ----------
    hidden
        Units of the hidden layer (AttriGuard and SP-ASPP: 30,000).
    dropout
        Rate on the hidden units.
    learning_rate, batch_size
        Of Adam.
    epochs, patience, dev_share
        Training lasts at most ``epochs``, and stops after ``patience`` epochs without a better
        accuracy on this share of the users, held out.
    """

    paper: str
    hidden: int = 4000
    dropout: float = 0.7
    learning_rate: float = 5e-4
    batch_size: int = 200
    epochs: int = 100
    patience: int = 5
    dev_share: float = 0.1

    def architecture(self, records: Records, classes: int) -> "FullyConnected":
        """Return the network for such records; its first layer is sparse where they are."""
        from privet.models import FullyConnected

        return FullyConnected(
            records.shape[1],
            (self.hidden,),
            classes,
            self.dropout,
            sparse_input=not isinstance(records, np.ndarray),
        )

    def setup(self, model: "nn.Module", known: "Labelled") -> "Setup":
        """Return how a network, not necessarily of `architecture`, is trained on known users."""
        from privet.fit import Setup, adam

        return Setup(
            model=model,
            inputs=known[0],
            labels=known[1],
            optimizer=adam(self.learning_rate),
            batch_size=self.batch_size,
        )

    def fit(self, records: Records, labels: IntArray, *, classes: int, seed: int) -> Guess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        import torch

        from privet.fit import fit, seeded

        held, rest = hold_out(len(labels), self.dev_share, seed, what="the known data")
        truth = torch.from_numpy(labels)
        with seeded(derive(seed, "initialize", "attacker")):
            model = self.architecture(records, classes).build()
        fit(
            self.setup(model, (as_inputs(records[rest]), truth[rest])),
            derive(seed, "attacker"),
            most=self.epochs,
            dev=(as_inputs(records[held]), truth[held]),
            patience=self.patience,
        )
        return lambda asked: guesses(model, asked)


@dataclass(frozen=True)
class LogisticRegression:
    """Multinomial logistic regression with an L2 penalty (LR-A).

    Parameters
    ----------
    strengths
        Inverse penalties to choose from, by accuracy on ``dev_share`` of the users, held out; the
        chosen one then learns from all of them.
    """

    paper: str
    strengths: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    dev_share: float = 0.1

    def fit(self, records: Records, labels: IntArray, *, classes: int, seed: int) -> Guess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        from sklearn.linear_model import LogisticRegression as Classifier

        held, rest = hold_out(len(labels), self.dev_share, seed, what="the known data")
        if len(np.unique(labels[rest])) < 2:
            raise DataError("too few known users have a second attribute; give more of them")

        def accuracy(strength: float) -> float:
            chosen = Classifier(C=strength, max_iter=1000).fit(records[rest], labels[rest])
            return float((chosen.predict(records[held]) == labels[held]).mean())

        accuracies = [accuracy(each) for each in track(self.strengths, "logistic regressions")]
        best = self.strengths[int(np.argmax(accuracies))]
        classifier = Classifier(C=best, max_iter=1000).fit(records, labels)
        return lambda asked: np.asarray(classifier.predict(asked))


@dataclass(frozen=True)
class RandomForest:
    """A random forest (RF-A).

    Parameters
    ----------
    trees
        Number of trees, each split on the best of sqrt(features) features.
    leaf
        Fewest users in a leaf: on sparse ratings, single users make deep trees that are slower
        and guess worse.
    """

    paper: str
    trees: int = 100
    leaf: int = 3

    def fit(self, records: Records, labels: IntArray, *, classes: int, seed: int) -> Guess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            n_estimators=self.trees,
            min_samples_leaf=self.leaf,
            random_state=derive(seed, "forest") % 2**32,
            n_jobs=-1,
        ).fit(records, labels)
        return lambda asked: np.asarray(forest.predict(asked))


@dataclass(frozen=True)
class Majority:
    """Always guess the most common attribute (BA-A): what can be had without any record."""

    paper: str

    def fit(self, records: Records, labels: IntArray, *, classes: int, seed: int) -> Guess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        common = int(np.bincount(labels, minlength=classes).argmax())
        return lambda asked: np.full(asked.shape[0], common)


ATTRIGUARD = (
    "Jia & Gong, AttriGuard: A Practical Defense Against Attribute Inference Attacks via "
    "Adversarial Machine Learning, USENIX Security 2018"
)
NETWORK = NeuralNetwork(paper=ATTRIGUARD)

ATTRIBUTE_ATTACKERS: Mapping[str, AttributeAttacker] = {
    "nn": NETWORK,
    "logistic": LogisticRegression(paper=ATTRIGUARD),
    "forest": RandomForest(paper=ATTRIGUARD),
    "majority": Majority(paper=ATTRIGUARD),
}
"""Every attacker by the name that the command line and the reports use."""


def hold_out(count: int, share: float, seed: int, *, what: str) -> tuple[Rows, Rows]:
    """Return the rows of a random share of users, and those of the others.

    Raises
    ------
    DataError
        When there is no user to hold out of ``what``.
    """
    order = generator(seed, "users").permutation(count)
    held = round(share * count)
    if held < 1:
        raise DataError(f"{what} has {count} users: too few to hold out {share:.0%}")
    return order[:held], order[held:]


def guesses(model: "nn.Module", records: Records) -> IntArray:
    """Return the attribute that a network guesses for each record; shape (users,)."""
    from privet import query

    return np.asarray(query.logits(model, as_inputs(records)).argmax(1).numpy())


def as_inputs(records: Records) -> "Inputs":
    """Return records as the training loop takes them."""
    if not isinstance(records, np.ndarray):
        return records.tocsr()  # type: ignore[no-any-return]
    import torch

    return torch.from_numpy(records)
