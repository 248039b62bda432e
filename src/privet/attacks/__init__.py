"""Membership inference attacks: they score, `privet.metrics` judges.

To add an attack: write one file with a frozen dataclass that satisfies `Attack`, and give it a
row in `ATTACKS` with its citation. The conformance suite then runs over it.
"""

from collections.abc import Mapping

from privet.attacks.base import NEEDS, Attack, Verdict
from privet.attacks.label_only import CorrectnessGap, robustness
from privet.attacks.threshold import (
    AverageLoss,
    Threshold,
    confidence,
    negative_entropy,
    negative_modified_entropy,
    top_confidence,
)

__all__ = ["ATTACKS", "NEEDS", "Attack", "Verdict"]

SONG_MITTAL = (
    "Song & Mittal, Systematic Evaluation of Privacy Risks of Machine Learning Models, "
    "USENIX Security 2021"
)
SALEM = (
    "Salem et al., ML-Leaks: Model and Data Independent Membership Inference Attacks and "
    "Defenses on Machine Learning Models, NDSS 2019"
)
YEOM = (
    "Yeom et al., Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting, "
    "IEEE CSF 2018"
)
CHOQUETTE_CHOO = "Choquette-Choo et al., Label-Only Membership Inference Attacks, ICML 2021"

ATTACKS: Mapping[str, Attack] = {
    "conf": Threshold(confidence, per_class=True, paper=SONG_MITTAL),
    "entr": Threshold(negative_entropy, per_class=True, paper=SONG_MITTAL),
    "mentr": Threshold(negative_modified_entropy, per_class=True, paper=SONG_MITTAL),
    "hconf": Threshold(top_confidence, per_class=False, paper=SALEM),
    "loss": AverageLoss(paper=YEOM),
    "gap": CorrectnessGap(paper=YEOM),
    "label-only": Threshold(
        robustness,
        per_class=False,
        paper=CHOQUETTE_CHOO,
        needs=frozenset({"shadow", "robustness"}),
    ),
}
"""Every attack by the name that the command line and the reports use."""
