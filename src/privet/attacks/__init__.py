"""Membership inference attacks: they score, `privet.metrics` judges.

To add an attack: write one file with a frozen dataclass that satisfies `Attack`, and give it a
row in `ATTACKS` with its citation. The conformance suite then runs over it.
"""

from collections.abc import Mapping

from privet.attacks.base import NEEDS, PACKAGES, Attack, Verdict
from privet.attacks.label_only import CorrectnessGap, robustness
from privet.attacks.reference import RMIA, CalibratedLoss, LiRA
from privet.attacks.threshold import (
    AverageLoss,
    Threshold,
    confidence,
    negative_entropy,
    negative_modified_entropy,
    top_confidence,
)

__all__ = ["ATTACKS", "NEEDS", "PACKAGES", "Attack", "Verdict"]

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
CARLINI = "Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022"
ZARIFZADEH = "Zarifzadeh, Liu & Shokri, Low-Cost High-Power Membership Inference Attacks, ICML 2024"
WATSON = (
    "Watson et al., On the Importance of Difficulty Calibration in Membership Inference Attacks, "
    "ICLR 2022"
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
    "lira": LiRA(paper=CARLINI),
    "lira-offline": LiRA(paper=CARLINI, online=False),
    "rmia": RMIA(paper=ZARIFZADEH),
    "rmia-offline": RMIA(paper=ZARIFZADEH, online=False),
    "calibrated": CalibratedLoss(paper=WATSON),
}
"""Every attack by the name that the command line and the reports use."""
