"""Attacks that learn on shadow models what membership looks like (Shokri et al. 2017 onwards).

Every attack here goes the same way: features of the shadow models' answers, one learner, a
decision threshold. Three deviations from the published code, for all of them:

- Members and nonmembers count the same. Members outnumber nonmembers, and an attack trained on
  plain accuracy learns to accuse everyone.
- Learning is cross-fitted. The shadow samples are dealt into folds; one learner for each fold
  meets all others and is scored on its own. No sample is on both sides, in whichever shadow
  model's answers. The threshold with the best balanced accuracy is read off these scores, and
  the target's are the mean of the learners'.
- Rows are capped (`MOST_ROWS`), so time and memory stay flat in the number of shadow models.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from privet.attacks.base import Verdict
from privet.attacks.threshold import balanced_threshold
from privet.errors import EvidenceError
from privet.signals import BoolArray, Evidence, FloatArray, IntArray, Signals

MOST_ROWS = 50_000
FOLDS = 3
# Below the floor a confidence says nothing but to memorize by: many near-zero classes drown the
# rest. Both were chosen by cross-fitted AUC on shadow models of Location.
POSTERIOR_FLOOR, TOP_FLOOR = 1e-2, 1e-4

Features = Callable[[Signals], FloatArray]
"""From the signals of one model to its features, shape (samples, width)."""
Scorer = Callable[[FloatArray], FloatArray]
"""From features, (rows, width), to log odds of membership, (rows,)."""


@dataclass(frozen=True, eq=False)
class Examples:
    """What a learner learns from: one row for each answer of a shadow model.

    Parameters
    ----------
    inputs
        Shape (rows, width), float32.
    members
        Shape (rows,), bool: whether the model that answered had trained on the sample.
    samples
        Shape (rows,): which shadow sample the row is about.
    """

    inputs: FloatArray
    members: BoolArray
    samples: IntArray

    def take(self, chosen: BoolArray) -> "Examples":
        """Return some of the rows."""
        return Examples(self.inputs[chosen], self.members[chosen], self.samples[chosen])


Learner = Callable[[Examples, Examples, int], Scorer]
"""From rows to learn from, rows held out (to stop by, never to learn from) and a seed."""


def posterior(signals: Signals) -> FloatArray:
    """Return the log confidence of each class; shape (samples, classes)."""
    return _floored(signals, POSTERIOR_FLOOR)


def top_three(signals: Signals) -> FloatArray:
    """Return the three largest log confidences, the largest first; shape (samples, 3 at most).

    Neither the true class nor the order of classes enters.
    """
    return -np.sort(-_floored(signals, TOP_FLOOR), axis=1)[:, :3]


def posterior_and_label(signals: Signals) -> FloatArray:
    """Return `posterior` and the one-hot true class; shape (samples, 2 classes)."""
    return np.hstack([posterior(signals), _one_hot(signals)])


def posterior_sensitivity_label(signals: Signals) -> FloatArray:
    """Return `posterior`, sensitivity and one-hot true class; shape (samples, 3 classes).

    Raises
    ------
    EvidenceError
        When the signals hold no sensitivity.
    """
    if signals.sensitivity is None:
        raise EvidenceError("the signals hold no sensitivity; query it with privet.query.signals")
    return np.hstack([posterior(signals), signals.sensitivity[0], _one_hot(signals)])


@dataclass(frozen=True)
class Perceptron:
    """Learn with the network 512-256-128-2 (see `privet.attacks.networks.perceptron`).

    ``blocks`` says how often the features list the classes, one block after another; 0 where
    they do not.
    """

    blocks: int

    def __call__(self, known: Examples, held: Examples, seed: int) -> Scorer:
        """Return the trained network's log odds of membership."""
        from privet.attacks import networks

        return networks.perceptron(known, held, blocks=self.blocks, seed=seed)


def transformer(known: Examples, held: Examples, seed: int) -> Scorer:
    """Learn with SAMIA's transformer (see `privet.attacks.networks.transformer`)."""
    from privet.attacks import networks

    return networks.transformer(known, held, seed=seed)


@dataclass(frozen=True)
class Learned:
    """Score the target with learners trained on the shadow models' answers.

    Parameters
    ----------
    features
        What the learner sees of one model's answer.
    learner
        What learns.
    paper
        The publication that the attack comes from.
    needs
        What the evidence must hold for the features.
    """

    features: Features
    learner: Learner
    paper: str
    needs: frozenset[str] = frozenset({"shadow"})

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool with log odds of membership; see `privet.attacks.Attack`."""
        shadow, members = evidence.known()
        known = examples(
            lambda model, samples: self.features(part(shadow, model, samples)), members, rng
        )
        asked = self.features(evidence.target).astype(np.float32)
        return cross_fit(known, asked, learner=self.learner, rng=rng)


def examples(
    features: Callable[[int, IntArray], FloatArray],
    members: BoolArray,
    rng: np.random.Generator,
    *,
    most: int = MOST_ROWS,
) -> Examples:
    """Return the shadow models' answers as rows to learn from, built one model at a time.

    Parameters
    ----------
    features
        From a shadow model's number and the samples wanted to their features.
    members
        Shape (shadow models, shadow samples), bool.
    most
        Rows at most, shared evenly among the models. A model with more samples gives a random
        draw of its members and of its nonmembers, as many of each as there are.
    """
    drawn = [_draw(inside, max(2, most // len(members)), rng) for inside in members]
    inputs = [
        features(model, samples).astype(np.float32, copy=False)
        for model, samples in enumerate(drawn)
    ]
    inside = [members[model, samples] for model, samples in enumerate(drawn)]
    return Examples(np.concatenate(inputs), np.concatenate(inside), np.concatenate(drawn))


def part(signals: Signals, model: int, samples: IntArray) -> Signals:
    """Return one model's signals on some samples."""
    sensitivity = signals.sensitivity
    return Signals(
        signals.logits[model][samples][None],
        signals.labels[samples],
        None if sensitivity is None else sensitivity[model][samples][None],
    )


def cross_fit(
    known: Examples,
    asked: FloatArray,
    *,
    learner: Learner,
    rng: np.random.Generator,
    folds: int = FOLDS,
) -> Verdict:
    """Learn from all folds but one, for each fold; score ``asked`` by the mean of the learners.

    Raises
    ------
    EvidenceError
        When there are too few members or nonmembers for each fold to have some.
    """
    fold = deal(known, folds, rng)[known.samples]
    held_scores, scores = np.empty(len(known.members)), np.zeros(len(asked))
    for number in range(folds):
        held = fold == number
        if not 0 < known.members[held].sum() < held.sum():
            raise EvidenceError(
                f"learned attacks need members and nonmembers in each of {folds} folds of the "
                f"shadow samples; got {known.members.sum()} members and "
                f"{(~known.members).sum()} nonmembers"
            )
        score = learner(known.take(~held), known.take(held), int(rng.integers(2**62)))
        found, inside = score(known.inputs[held]), known.members[held]
        # Learners that stopped early lean to one side, each to its own; one threshold needs them
        # level.
        lean = (found[inside].mean() + found[~inside].mean()) / 2
        held_scores[held] = found - lean
        scores += (score(asked) - lean) / folds
    return Verdict(scores, balanced_threshold(held_scores, known.members))


def deal(known: Examples, folds: int, rng: np.random.Generator) -> IntArray:
    """Deal the shadow samples into folds, in random order; shape (samples,), in 0..folds - 1.

    Samples that equally many shadow models trained on are spread evenly, which keeps the share
    of members alike in all folds.
    """
    counts = np.bincount(known.samples, weights=known.members)
    fold = np.empty(len(counts), dtype=np.int64)
    fold[np.lexsort((rng.random(len(counts)), counts))] = np.arange(len(counts)) % folds
    return fold


def _draw(inside: BoolArray, most: int, rng: np.random.Generator) -> IntArray:
    members, nonmembers = np.flatnonzero(inside), np.flatnonzero(~inside)
    if len(inside) <= most:
        return np.arange(len(inside))
    of_members = min(len(members), max(most // 2, most - len(nonmembers)))
    kept = [rng.permutation(members)[:of_members], rng.permutation(nonmembers)[: most - of_members]]
    return np.sort(np.concatenate(kept))


def _floored(signals: Signals, floor: float) -> FloatArray:
    return np.asarray(np.log(np.exp(signals.log_confidences()[0]) + floor))


def _one_hot(signals: Signals) -> FloatArray:
    return np.asarray(np.arange(signals.classes) == signals.labels[:, None], dtype=np.float64)
