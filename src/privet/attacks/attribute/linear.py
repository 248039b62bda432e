"""Logistic regression."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from privet.attacks.attribute.base import Guess, Known, hold_out
from privet.errors import DataError
from privet.progress import track


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
    needs_protection: ClassVar[bool] = False

    def fit(self, known: Known, *, seed: int) -> Guess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        from sklearn.linear_model import LogisticRegression as Classifier

        records, labels = known.records, known.labels
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
