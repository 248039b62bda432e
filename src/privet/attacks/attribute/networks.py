"""The neural network, with which AttriGuard and SP-ASPP attack, trained in several ways."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import numpy as np

from privet.attacks.attribute.base import Known, Records, as_inputs, hold_out
from privet.seeds import derive
from privet.signals import IntArray

if TYPE_CHECKING:
    from torch import nn

    from privet.fit import Labelled, Loss, Setup
    from privet.models import FullyConnected

A = TypeVar("A")


@dataclass(frozen=True)
class NeuralNetwork:
    """A fully connected network with one hidden layer of ReLU units (NN-A).

    With its defaults the very network that judges a build of attribute protection, and that its
    defense models are: from equal users and seeds it learns equal weights. Its training stops
    when the accuracy on held-out users stalls, where AttriGuard and SP-ASPP train for a fixed
    number of epochs and overfit; they descend by ``sgd``.

    Parameters
    ----------
    hidden
        Units of the hidden layer (AttriGuard and SP-ASPP: 30,000).
    dropout
        Rate on the hidden units.
    optimizer, learning_rate, batch_size
        Adam, or stochastic gradient descent without momentum.
    epochs, patience, dev_share
        Training lasts at most ``epochs``, and stops after ``patience`` epochs without a better
        accuracy on this share of the users, held out. With ``patience`` None it lasts them all,
        on all users, and the last epoch counts.
    """

    paper: str
    hidden: int = 4000
    dropout: float = 0.7
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 5e-4
    batch_size: int = 200
    epochs: int = 100
    patience: int | None = 5
    dev_share: float = 0.1
    needs_protection: ClassVar[bool] = False

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
        from privet.fit import Setup, adam, sgd

        return Setup(
            model=model,
            inputs=known[0],
            labels=known[1],
            optimizer={"adam": adam, "sgd": sgd}[self.optimizer](self.learning_rate),
            batch_size=self.batch_size,
        )

    def fit(self, known: Known, *, seed: int) -> "NetworkGuess":
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        held, rest = self.split(known, seed)
        dev = (known.records[held], known.labels[held]) if len(held) else None
        return self.learn((known.records[rest], known.labels[rest]), known, dev=dev, seed=seed)

    def split(self, known: Known, seed: int) -> tuple[IntArray, IntArray]:
        """Return the rows of the users that stop training, possibly none, and of the others."""
        if self.patience is None:
            return np.arange(0), np.arange(len(known.labels))
        return hold_out(len(known.labels), self.dev_share, seed, what="the known data")

    def learn(
        self,
        train: tuple[Records, IntArray],
        known: Known,
        *,
        dev: tuple[Records, IntArray] | None,
        seed: int,
        loss: "Loss | None" = None,
    ) -> "NetworkGuess":
        """Train on some users, who may differ from the known ones only in their records.

        Parameters
        ----------
        train, dev
            Records and labels to learn from, and to stop by.
        known
            Whose kind of records, and number of classes.
        loss
            Instead of cross-entropy.
        """
        import torch

        from privet.fit import fit, seeded

        with seeded(derive(seed, "initialize", "attacker")):
            model = self.architecture(known.records, known.classes).build()
        setup = self.setup(model, (as_inputs(train[0]), torch.from_numpy(train[1])))
        fit(
            setup if loss is None else replace(setup, loss=loss),
            derive(seed, "attacker"),
            most=self.epochs,
            dev=None if dev is None else (as_inputs(dev[0]), torch.from_numpy(dev[1])),
            patience=None if dev is None else self.patience,
        )
        return NetworkGuess(model)


@dataclass(frozen=True, eq=False)
class NetworkGuess:
    """What a network guesses (a `Guess`); its weights are there for who can use them."""

    model: "nn.Module"

    def __call__(self, records: Records) -> IntArray:
        """Return the attribute that the network guesses for each record; shape (users,)."""
        return guesses(self.model, records)


def guesses(model: "nn.Module", records: Records) -> IntArray:
    """Return the attribute that a network guesses for each record; shape (users,)."""
    from privet import query

    return np.asarray(query.logits(model, as_inputs(records)).argmax(1).numpy())


def with_hidden(attacker: A, hidden: int) -> A:
    """Return the attacker with that many units in the network that it is, or holds in a field."""
    if isinstance(attacker, NeuralNetwork):
        return replace(attacker, hidden=hidden)
    if not is_dataclass(attacker) or isinstance(attacker, type):
        return attacker
    parts = {each.name: getattr(attacker, each.name) for each in fields(attacker)}
    networks = {name: part for name, part in parts.items() if isinstance(part, NeuralNetwork)}
    return replace(attacker, **{name: replace(n, hidden=hidden) for name, n in networks.items()})
