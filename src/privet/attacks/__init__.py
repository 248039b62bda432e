"""Membership inference attacks: they score, `privet.metrics` judges.

To add an attack: write one file with a frozen dataclass that satisfies `Attack`, and give it a
row in `ATTACKS` with its citation. The conformance suite then runs over it.
"""

from collections.abc import Mapping

from privet.attacks.base import Attack, Verdict
from privet.attacks.threshold import (
    Threshold,
    confidence,
    negative_entropy,
    negative_modified_entropy,
    top_confidence,
)

__all__ = ["ATTACKS", "Attack", "Verdict"]

SONG_MITTAL = (
    "Song & Mittal, Systematic Evaluation of Privacy Risks of Machine Learning Models, "
    "USENIX Security 2021"
)
SALEM = (
    "Salem et al., ML-Leaks: Model and Data Independent Membership Inference Attacks and "
    "Defenses on Machine Learning Models, NDSS 2019"
)

ATTACKS: Mapping[str, Attack] = {
    "conf": Threshold(confidence, per_class=True, paper=SONG_MITTAL),
    "entr": Threshold(negative_entropy, per_class=True, paper=SONG_MITTAL),
    "mentr": Threshold(negative_modified_entropy, per_class=True, paper=SONG_MITTAL),
    "hconf": Threshold(top_confidence, per_class=False, paper=SALEM),
}
"""Every attack by the name that the command line and the reports use."""
