"""Attack several released versions of one network together.

The network before pruning and the pruned one, or several prunings of one, each tell something of
their own, and how an answer *moves* between them tells more (CompLeak). An auditor that judges
each release alone reports too little.
"""

from dataclasses import dataclass

import numpy as np

from privet.attacks.base import Verdict
from privet.attacks.boosting import boost, output_features
from privet.attacks.learned import Features, Learner, cross_fit, examples, part
from privet.errors import EvidenceError
from privet.signals import BoolArray, Evidence, FloatArray, IntArray, Signals


@dataclass(frozen=True)
class Releases:
    """Learn on the features of all releases, and on their differences from the audited one.

    CompLeak feeds whole confidence vectors of the original and the compressed models to a
    network; here trees see `output_features` of each release, which are as strong on one
    release and far quicker.

    Parameters
    ----------
    paper
        The publication that the attack comes from.
    features
        What the learner sees of one release's answer.
    learner
        What learns.
    """

    paper: str
    features: Features = output_features
    learner: Learner = boost
    needs: frozenset[str] = frozenset({"shadow", "releases"})

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool with log odds of membership; see `privet.attacks.Attack`.

        Raises
        ------
        EvidenceError
            Without other releases, or when shadow models of theirs answer on other samples or
            trained on others than those of the audited release.
        """
        shadow, members = evidence.known()
        shadows = [shadow, *_same_shadows(evidence, shadow, members)]
        targets = [evidence.target, *(other.target for other in evidence.releases)]

        def stacked(model: int, samples: IntArray) -> FloatArray:
            return self._stack([part(each, model, samples) for each in shadows])

        known = examples(stacked, members, rng)
        asked = self._stack(targets).astype(np.float32)
        return cross_fit(known, asked, learner=self.learner, rng=rng)

    def _stack(self, answers: list[Signals]) -> FloatArray:
        first, *others = [self.features(answer) for answer in answers]
        return np.hstack([first, *others, *(other - first for other in others)])


def _same_shadows(evidence: Evidence, shadow: Signals, members: BoolArray) -> list[Signals]:
    if not evidence.releases:
        raise EvidenceError("this attack compares releases, and the evidence has one only")
    found = []
    for number, other in enumerate(evidence.releases):
        signals, inside = other.known()
        if not np.array_equal(signals.labels, shadow.labels) or not np.array_equal(inside, members):
            raise EvidenceError(
                f"shadow models of release {number} must answer on the same samples and have the "
                f"same members as those of the audited release; release both from one training"
            )
        found.append(signals)
    return found
