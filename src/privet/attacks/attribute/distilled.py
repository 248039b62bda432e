"""Defensive distillation, the attacker's armor against evasion."""

from dataclasses import dataclass
from typing import ClassVar

from privet.attacks.attribute.base import Known, as_inputs
from privet.attacks.attribute.networks import NetworkGuess, NeuralNetwork
from privet.seeds import derive


@dataclass(frozen=True)
class Distilled:
    """A network that learns from the softened outputs of another (DD-A).

    Protection evades the attacker's classifier, so what makes classifiers hard to evade serves
    the attacker. Papernot et al., section IV: a first network learns from the labels with its
    logits divided by the temperature, a second one of the same architecture from the first's
    confidences at that temperature. Guesses are made at temperature 1, which changes no ranking.

    Parameters
    ----------
    network
        The architecture and the training of both.
    temperature
        At least 1; Papernot et al. vary it from 1 to 100. The hotter, the longer networks must
        learn: with ours much above 10, training that stops early stops too early.
    """

    paper: str
    network: NeuralNetwork
    temperature: float = 10.0
    needs_protection: ClassVar[bool] = False

    def fit(self, known: Known, *, seed: int) -> NetworkGuess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        from torch.nn.functional import cross_entropy

        from privet import query

        held, rest = self.network.split(known, seed)
        train = known.records[rest], known.labels[rest]
        dev = (known.records[held], known.labels[held]) if len(held) else None
        first = self.network.learn(
            train,
            known,
            dev=dev,
            seed=derive(seed, "teacher"),
            loss=lambda step: cross_entropy(step.logits / self.temperature, step.labels),
        )
        logits = query.logits(first.model, as_inputs(train[0]))
        soft = (logits / self.temperature).softmax(1)
        return self.network.learn(
            train,
            known,
            dev=dev,
            seed=seed,
            loss=lambda step: cross_entropy(step.logits / self.temperature, soft[step.indices]),
        )
