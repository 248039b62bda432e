"""Membership inference attacks: they score, `privet.metrics` judges.

To add an attack: write one file with a frozen dataclass that satisfies `Attack`, and give it a
row in `ATTACKS` with its citation. The conformance suite then runs over it.
"""

from collections.abc import Mapping

from privet.attacks.base import NEEDS, PACKAGES, Attack, Verdict
from privet.attacks.boosting import boost, output_features
from privet.attacks.label_only import CorrectnessGap, robustness
from privet.attacks.learned import (
    Learned,
    Perceptron,
    posterior,
    posterior_and_label,
    posterior_sensitivity_label,
    top_three,
    transformer,
)
from privet.attacks.reference import RMIA, CalibratedLoss, LiRA
from privet.attacks.releases import Releases
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
SHOKRI = (
    "Shokri et al., Membership Inference Attacks Against Machine Learning Models, IEEE S&P 2017"
)
NASR = (
    "Nasr, Shokri & Houmansadr, Machine Learning with Membership Privacy using Adversarial "
    "Regularization, CCS 2018"
)
YUAN_ZHANG = (
    "Yuan & Zhang, Membership Inference Attacks and Defenses in Neural Network Pruning, "
    "USENIX Security 2022"
)
COMPLEAK = (
    "Li et al., CompLeak: Deep Learning Model Compression Exacerbates Privacy Leakage, "
    "USENIX Security 2026"
)
CARLINI = "Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022"
ZARIFZADEH = "Zarifzadeh, Liu & Shokri, Low-Cost High-Power Membership Inference Attacks, ICML 2024"
WATSON = (
    "Watson et al., On the Importance of Difficulty Calibration in Membership Inference Attacks, "
    "ICLR 2022"
)
CHOQUETTE_CHOO = "Choquette-Choo et al., Label-Only Membership Inference Attacks, ICML 2021"

TRAINED = frozenset({"shadow", "torch"})
BOOSTED = frozenset({"shadow", "sklearn"})

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
    "nn": Learned(posterior, Perceptron(blocks=1), paper=SHOKRI, needs=TRAINED),
    "nn-top3": Learned(top_three, Perceptron(blocks=0), paper=SALEM, needs=TRAINED),
    "nn-class": Learned(posterior_and_label, Perceptron(blocks=2), paper=NASR, needs=TRAINED),
    "samia": Learned(
        posterior_sensitivity_label, transformer, paper=YUAN_ZHANG, needs=TRAINED | {"sensitivity"}
    ),
    "boosting": Learned(output_features, boost, paper=SONG_MITTAL, needs=BOOSTED),
    "multi-release": Releases(paper=COMPLEAK, needs=BOOSTED | {"releases"}),
    "lira": LiRA(paper=CARLINI),
    "lira-offline": LiRA(paper=CARLINI, online=False),
    "rmia": RMIA(paper=ZARIFZADEH),
    "rmia-offline": RMIA(paper=ZARIFZADEH, online=False),
    "calibrated": CalibratedLoss(paper=WATSON),
}
"""Every attack by the name that the command line and the reports use."""
