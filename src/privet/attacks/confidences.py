"""Membership inference from protected confidences: attacks that know what MemGuard does to them.

The service answers each input with its true confidences or with noisy ones, by a fixed chance.
Attackers own a shadow classifier whose members they know. Most attacks here are those of
`privet.attacks.ATTACKS` on confidences in ascending order, in two ways: *unaware* attackers learn
from the shadow classifier as it is, as the papers' evaluations do; *adaptive* ones hold the bundle,
protect the shadow classifier with it, and learn from that. Two more are adaptive by nature: one
takes the noise off again, one asks the defense model in the bundle itself.

To add an attacker: write a frozen dataclass that satisfies `ConfidenceAttacker`, and give it a row
in `CONFIDENCE_ATTACKERS` with its citation. Nothing heavy is imported before an attacker learns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from privet.attacks import ATTACKS, Attack, Verdict
from privet.attacks.boosting import boost, output_features
from privet.attacks.learned import Learned, Perceptron, cross_fit, examples, part, posterior
from privet.attacks.threshold import (
    Threshold,
    confidence,
    negative_entropy,
    negative_modified_entropy,
)
from privet.device import Network
from privet.device.membership import Noise, log_confidences, release_probability
from privet.device.network import sigmoid
from privet.signals import BoolArray, Evidence, FloatArray, IntArray, Signals

DRAWS = 4
"""Answers that an adaptive attacker has its own service give about each shadow sample."""
LARGEST = 5
"""Confidences that boosted trees look at one by one; the others count by their mean."""
TREES, LEAST_IN_LEAF = 100, 5

TRUE_LABEL = "true label"
BUNDLE = "bundle"


@dataclass(frozen=True, eq=False)
class Answers:
    """What a service may answer about n labelled inputs: either of two vectors each.

    Parameters
    ----------
    before, after
        Shape (n, classes): log-confidences without and with noise.
    probability
        Shape (n,), in [0, 1]: the chance of ``after``.
    labels
        Shape (n,): the true classes.
    """

    before: FloatArray
    after: FloatArray
    probability: FloatArray
    labels: IntArray

    @classmethod
    def under(cls, noise: Noise, budget: ArrayLike, labels: IntArray) -> "Answers":
        """Return what the mechanism answers at a budget of expected L1 distortion."""
        return cls(
            log_confidences(noise.before),
            log_confidences(noise.after),
            release_probability(noise, budget),
            labels,
        )

    @property
    def weights(self) -> FloatArray:
        """Shape (2n,): the chance of each of `both`."""
        return np.concatenate([1 - self.probability, self.probability])

    def both(self) -> Signals:
        """Return every answer there can be: n without noise, then n with it, of one model."""
        either = np.concatenate([self.before, self.after])
        return Signals(either[None], np.tile(self.labels, 2))

    def plain(self) -> Signals:
        """Return the answers without noise, of one model."""
        return Signals(self.before[None], self.labels)

    def drawn(self, rng: np.random.Generator, count: int = DRAWS) -> Signals:
        """Return ``count`` answers about each input, as if that many models had been asked.

        Draws are systematic: of each input's answers, the share with noise is its probability,
        rounded up or down at random.
        """
        ticks = (np.arange(count)[:, None] + rng.random(len(self.labels))) / count
        noisy = (ticks < self.probability)[:, :, None]
        return Signals(np.where(noisy, self.after, self.before), self.labels)


@dataclass(frozen=True, eq=False)
class Case:
    """Everything an attacker of protected confidences may look at.

    Who is a member of the target is not part of it.

    Parameters
    ----------
    asked
        One model's signals: the answers to judge, each by itself.
    shadow
        What the attacker's own classifier answers, under the same bundle and budget.
    members
        Shape (shadow samples,), bool: on which of them the shadow classifier was trained.
    defense
        The network in the bundle.
    """

    asked: Signals
    shadow: Answers
    members: BoolArray
    defense: Network

    def evidence(self, shadow: Signals) -> Evidence:
        """Return the evidence that plain attacks take, learning from ``shadow``."""
        members = np.broadcast_to(self.members, (shadow.models, len(self.members)))
        return Evidence(self.asked, shadow, members)


class ConfidenceAttacker(Protocol):
    """A membership inference attack on protected confidences."""

    @property
    def paper(self) -> str:
        """The publication that the attack comes from."""

    @property
    def knows(self) -> tuple[str, ...]:
        """What it knows beside confidences: `TRUE_LABEL`, `BUNDLE`.

        Without the bundle, what it learns does not depend on the budget.
        """

    def attack(self, case: Case, rng: np.random.Generator) -> Verdict:
        """Score every answer asked about; see `privet.attacks.Attack`."""


@dataclass(frozen=True)
class Shadowing:
    """A plain attack that learns from the shadow classifier, protected if it knows the bundle."""

    base: Attack
    knows: tuple[str, ...] = ()

    @property
    def paper(self) -> str:
        """The publication that the plain attack comes from."""
        return self.base.paper

    def attack(self, case: Case, rng: np.random.Generator) -> Verdict:
        """Score every answer; see `ConfidenceAttacker`."""
        shadow = case.shadow.drawn(rng) if BUNDLE in self.knows else case.shadow.plain()
        return self.base.attack(case.evidence(shadow), rng)


@dataclass(frozen=True)
class Denoising:
    """Guess the confidences behind each answer, then attack those as if there were no protection.

    Extremely randomized trees learn from the shadow classifier what stands behind its protected
    answers, in the features of the attack.
    """

    paper: str
    knows: tuple[str, ...] = (BUNDLE,)

    def attack(self, case: Case, rng: np.random.Generator) -> Verdict:
        """Score every answer; see `ConfidenceAttacker`."""
        from sklearn.ensemble import ExtraTreesRegressor

        drawn, plain = case.shadow.drawn(rng), case.shadow.plain()
        trees = ExtraTreesRegressor(
            TREES, min_samples_leaf=LEAST_IN_LEAF, random_state=int(rng.integers(2**32))
        )
        answers = np.concatenate([ascending(drawn.one(model)) for model in range(drawn.models)])
        trees.fit(answers, np.tile(ascending(plain), (drawn.models, 1)))
        guessed = np.asarray(trees.predict(ascending(case.asked)), dtype=np.float32)
        known = examples(
            lambda model, samples: ascending(part(plain, model, samples)), case.members[None], rng
        )
        return cross_fit(known, guessed, learner=Perceptron(blocks=0), rng=rng)


@dataclass(frozen=True)
class DefenseModel:
    """Ask the bundle's defense model, and turn its answer round where it is close.

    Noise leaves the defense model barely on the other side of its true decision. Within which
    distance an answer is rather noisy than not, the attacker learns from its own protected
    answers. Wrongly predicted inputs are nonmembers. The decision undone is that of a model
    trained on the target itself: more than a shadow classifier gives.
    """

    paper: str
    knows: tuple[str, ...] = (TRUE_LABEL, BUNDLE)

    def attack(self, case: Case, rng: np.random.Generator) -> Verdict:
        """Score every answer in (-1, 1); see `ConfidenceAttacker`."""
        reach = self._reach(case.shadow, case.defense)
        h = _decide(case.defense, case.asked.log_confidences()[0])
        undone = np.where(abs(h) <= reach, -h, h)
        wrong = case.asked.logits[0].argmax(axis=1) != case.asked.labels
        return Verdict(sigmoid(undone) - wrong, 0.5)

    def _reach(self, shadow: Answers, defense: Network) -> float:
        """Return the distance up to which most answers are noisy, 0 where none are."""
        distance = abs(_decide(defense, np.concatenate([shadow.before, shadow.after])))
        noisy = np.concatenate([shadow.probability - 1, shadow.probability])
        order = np.argsort(distance)
        gained = noisy[order].cumsum()
        best = int(gained.argmax())
        return float(distance[order[best]]) if gained[best] > 0 else 0.0


def ascending(signals: Signals) -> FloatArray:
    """Return one model's log confidences in ascending order, floored; shape (samples, classes)."""
    return np.sort(posterior(signals), axis=1)


def ascending_and_outputs(signals: Signals) -> FloatArray:
    """Return `ascending`, and seven numbers most of which know the true label."""
    return np.hstack([ascending(signals), output_features(signals)])


def shape(signals: Signals) -> FloatArray:
    """Return numbers about one model's answers without the true label; shape (samples, 4 to 8).

    The largest log confidences, minus entropy, the first one's lead over the second, and the mean
    of the rest, if there is any.
    """
    log_p = -np.sort(-signals.log_confidences()[0], axis=1)
    largest, rest = log_p[:, :LARGEST], log_p[:, LARGEST:]
    numbers = [largest, (np.exp(log_p) * log_p).sum(axis=1), log_p[:, 0] - log_p[:, 1]]
    if rest.shape[1]:
        numbers.append(rest.mean(axis=1))
    return np.column_stack(numbers)


def _decide(defense: Network, log_confidences: FloatArray) -> FloatArray:
    """Return the defense model's logit, positive for members; shape (samples,)."""
    confidences = np.sort(np.exp(log_confidences), axis=1)
    return defense.logits(confidences)[:, 0].astype(np.float64)


MEMGUARD = (
    "Jia et al., MemGuard: Defending against Black-Box Membership Inference Attacks via "
    "Adversarial Examples, CCS 2019"
)
SONG_MITTAL = ATTACKS["mentr"].paper
OWN = "privet's own, against MemGuard (Jia et al., CCS 2019) by whoever holds the bundle"
TRAINED, BOOSTED = (ATTACKS[name].needs for name in ("nn", "boosting"))
NETWORK = Learned(ascending, Perceptron(blocks=0), MEMGUARD, frozenset(TRAINED))
INFORMED = Learned(
    ascending_and_outputs, Perceptron(blocks=0), ATTACKS["nn-class"].paper, frozenset(TRAINED)
)
BOOSTING = Learned(shape, boost, SONG_MITTAL, frozenset(BOOSTED))
# One threshold for all classes: a shadow classifier as small as MemGuard's has too few of each.
ENTROPY, CONFIDENCE, MODIFIED_ENTROPY = (
    Threshold(metric, per_class=False, paper=SONG_MITTAL)
    for metric in (negative_entropy, confidence, negative_modified_entropy)
)

CONFIDENCE_ATTACKERS: Mapping[str, ConfidenceAttacker] = {
    "nn": Shadowing(NETWORK),
    "hconf": Shadowing(ATTACKS["hconf"]),
    "entr": Shadowing(ENTROPY),
    "conf": Shadowing(CONFIDENCE, knows=(TRUE_LABEL,)),
    "mentr": Shadowing(MODIFIED_ENTROPY, knows=(TRUE_LABEL,)),
    "gap": Shadowing(ATTACKS["gap"], knows=(TRUE_LABEL,)),
    "nn-label": Shadowing(INFORMED, knows=(TRUE_LABEL,)),
    "boosting": Shadowing(BOOSTING),
    "boosting-label": Shadowing(ATTACKS["boosting"], knows=(TRUE_LABEL,)),
    "nn-adaptive": Shadowing(NETWORK, knows=(BUNDLE,)),
    "nn-label-adaptive": Shadowing(INFORMED, knows=(TRUE_LABEL, BUNDLE)),
    "boosting-adaptive": Shadowing(BOOSTING, knows=(BUNDLE,)),
    "boosting-label-adaptive": Shadowing(ATTACKS["boosting"], knows=(TRUE_LABEL, BUNDLE)),
    "denoiser": Denoising(paper=OWN),
    "defense-model": DefenseModel(paper=OWN),
}
"""Every attacker by the name that the reports use."""
