"""What attackers of every kind make of protected confidences, in expectation over the noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from privet import query
from privet.attacks import Verdict
from privet.attacks.confidences import (
    BUNDLE,
    CONFIDENCE_ATTACKERS,
    MEMGUARD,
    Answers,
    Case,
    ConfidenceAttacker,
)
from privet.device import Network
from privet.device.membership import find_noise
from privet.jobs.membership_evaluation import Observed
from privet.progress import track
from privet.seeds import generator
from privet.signals import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """The papers' attack model as a build has trained it, on its shadow classifier's confidences.

    Parameters
    ----------
    model
        From confidences sorted ascending to one logit, positive for members.
    """

    model: nn.Module
    paper: str = MEMGUARD
    knows: tuple[str, ...] = ()

    def attack(self, case: Case, rng: np.random.Generator) -> Verdict:
        """Score every answer with the model's logit; see `ConfidenceAttacker`."""
        confidences = np.sort(np.exp(case.asked.log_confidences()[0]), axis=1)
        scores = query.logits(self.model, torch.from_numpy(confidences).float())[:, 0]
        # Verdicts accuse at the threshold, the papers' attack above zero.
        return Verdict(scores.double().numpy(), float(np.finfo(np.float64).tiny))


def attack_confidences(
    defense: Network,
    *,
    shadow: Observed,
    vectors: Observed,
    budgets: Sequence[float],
    seed: int,
    attackers: Mapping[str, ConfidenceAttacker] = CONFIDENCE_ATTACKERS,
) -> list[dict[str, Any]]:
    """Protect vectors with a defense model, and let attackers judge whose members they are.

    Parameters
    ----------
    defense
        D or one of its tiers.
    shadow, vectors
        The attacker's classifier on its own samples, and the vectors to protect, with true labels
        and both members and nonmembers each.
    budgets
        Expected L1 distortions.
    seed
        Each attacker, and an adaptive one at each budget, gets a stream of its own.

    Returns
    -------
    One dictionary an attacker: ``attacker``, ``paper``, what it ``knows``, and its ``accuracy``
    (balanced, by its own decision rule) and ``auc`` when ``unprotected`` and ``by_budget``. Both
    are exact expectations over independent releases, see `expected_auc`.

    Raises
    ------
    DataError
        When the true labels are missing.
    """
    hidden = find_noise(defense, vectors.logits), vectors.truth()
    own = find_noise(defense, shadow.logits), shadow.truth()
    levels = (0.0, *budgets)
    found = []
    for name, attacker in track(attackers.items(), "attackers", total=len(attackers)):
        verdict, figures = None, []
        for budget in levels:
            answers = Answers.under(hidden[0], budget, hidden[1])
            if verdict is None or BUNDLE in attacker.knows:
                known = Answers.under(own[0], budget, own[1])
                case = Case(answers.both(), known, shadow.members, defense)
                verdict = attacker.attack(case, generator(seed, "attack", name, f"{budget:g}"))
            figures.append(_figures(verdict, answers.weights, vectors.members))
        found.append(
            {
                "attacker": name,
                "paper": attacker.paper,
                "knows": list(attacker.knows),
                "unprotected": figures[0],
                "by_budget": {
                    f"{budget:g}": each for budget, each in zip(budgets, figures[1:], strict=True)
                },
            }
        )
    return found


def expected_auc(scores: FloatArray, weights: FloatArray, members: BoolArray) -> float:
    """Return the mean AUC over all random choices of answers, exactly; ties count half.

    A pair of a member and a nonmember is ordered right with the chance that the weights of their
    possible answers give; the two choose independently. The mean over all pairs is the expected
    Mann-Whitney statistic.

    Parameters
    ----------
    scores
        Shape (answers,): several for each vector.
    weights
        Shape (answers,): how likely that answer is; those of one vector sum to 1.
    members
        Shape (answers,), bool.
    """
    levels, level = np.unique(scores, return_inverse=True)
    inside = np.bincount(level, weights * members, len(levels))
    outside = np.bincount(level, weights * ~members, len(levels))
    wins = inside @ (np.cumsum(outside) - outside / 2)
    return float(wins / (inside.sum() * outside.sum()))


def expected_accuracy(hits: BoolArray, weights: FloatArray, members: BoolArray) -> float:
    """Return the mean balanced accuracy over all random choices; see `expected_auc`."""
    sides = (np.average(hits[side], weights=weights[side]) for side in (members, ~members))
    return float(sum(sides) / 2)


def _figures(verdict: Verdict, weights: FloatArray, members: BoolArray) -> dict[str, float | None]:
    truth = np.tile(members, 2)
    decisions = verdict.decisions
    return {
        "accuracy": None
        if decisions is None
        else expected_accuracy(decisions == truth, weights, truth),
        "auc": expected_auc(verdict.scores, weights, truth),
    }
