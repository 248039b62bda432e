"""Attacks that judge each sample by what reference models say of that very sample.

Some samples are easy for every model, member or not; these attacks take that difficulty away. An
*online* attack compares the target with models that trained on a sample (IN) and models that did
not (OUT); an *offline* one has OUT models only, for which it need not own the audited samples.

Logits are reduced to one number a model and sample at once, one model at a time, so memory holds
(models x samples) scalars.

Decision thresholds are learned by leave-one-out: each shadow model plays the target against the
others, on samples whose membership is known. Without shadow models, reference models that trained
on some of the audited samples serve as well. With fewer than `FEWEST_SHADOWS` of either there is
nothing to learn from, and the attacks only rank.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit

from privet.attacks.base import Verdict
from privet.attacks.panel import Panel
from privet.attacks.threshold import balanced_threshold, confidence
from privet.errors import EvidenceError, OptionError
from privet.metrics import auc
from privet.signals import BoolArray, Evidence, FloatArray, Metric, Signals

FEWEST_SHADOWS = 3
"""Leaving one of three out leaves two, the fewest whose spread can be told."""

PER_SAMPLE_FROM = 64
"""Reference models from which LiRA gives each sample a variance of its own."""

DEFAULT_A = 0.3
"""RMIA's offline coefficient where no shadow models can tell a better one."""


def scaled_logit(signals: Signals) -> FloatArray:
    """Return ``log(p_y / (1 - p_y))``, LiRA's statistic; shape (models, samples).

    It is computed from the logits as ``l_y - logsumexp(the others)``, which keeps its precision
    where the confidence rounds to one.

    Raises
    ------
    EvidenceError
        With a single class, whose confidence is always one.
    """
    if signals.classes < 2:
        raise EvidenceError(f"a scaled logit needs at least two classes; got {signals.classes}")
    others = signals.logits.astype(np.float64)
    index = signals.labels[None, :, None]
    true = np.take_along_axis(others, index, axis=2)[:, :, 0]
    np.put_along_axis(others, index, -np.inf, axis=2)
    largest = others.max(axis=2)
    others -= largest[:, :, None]
    return np.asarray(true - largest - np.log(np.exp(others).sum(axis=2)))


@dataclass(frozen=True)
class LiRA:
    """Likelihood-ratio attack (Carlini et al. 2022, algorithm 1): Gaussians for each sample.

    Online, the score is ``log N(phi; mean_in, var_in) - log N(phi; mean_out, var_out)`` of the
    target's scaled logit phi. Offline, it is the one-sided test ``P[Z <= phi]`` under the OUT
    Gaussian, given as the standardized value ``(phi - mean_out) / sd_out``: the same order, but
    it does not round to one. A sample without IN or without OUT models borrows that mean, see
    `Panel.completed`.

    Decisions: this is the paper's algorithm, where its published code differs. Means, not medians.
    Offline one side, not the density, by which a sample fitted far worse than by OUT models would
    count as a member. Fixed variances are pooled *within* samples, not taken over all samples
    together, which adds their different difficulties. Each sample is asked once, without the
    paper's augmented copies.

    Parameters
    ----------
    online
        Whether to use IN models too.
    variance
        ``"per-sample"``, ``"fixed"`` (one IN and one OUT variance for all samples), or ``"auto"``:
        per sample from `PER_SAMPLE_FROM` reference models on. With fewer than 64 models, the
        paper finds fixed variances better.
    """

    paper: str
    online: bool = True
    variance: Literal["auto", "fixed", "per-sample"] = "auto"

    def __post_init__(self) -> None:
        if self.variance not in ("auto", "fixed", "per-sample"):
            raise OptionError(
                f"variance must be 'auto', 'fixed' or 'per-sample'; got {self.variance!r}"
            )

    @property
    def needs(self) -> frozenset[str]:
        """See `privet.attacks.Attack`."""
        return _needs(self.online)

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool; see `privet.attacks.Attack`."""
        models = evidence.calibration()[0].models
        fixed = self.variance == "fixed" or (self.variance == "auto" and models < PER_SAMPLE_FROM)

        def score(phi: FloatArray, panel: Panel) -> FloatArray:
            mean_in, mean_out = panel.means
            var_in, var_out = panel.fixed_variances() if fixed else panel.variances()
            z_out = (phi - mean_out) / np.sqrt(var_out)
            if not self.online:
                return np.asarray(z_out)
            z_in = (phi - mean_in) / np.sqrt(var_in)
            return np.asarray((z_out**2 - z_in**2 + np.log(var_out / var_in)) / 2)

        return _calibrated(evidence, scaled_logit, score, online=self.online)


@dataclass(frozen=True)
class CalibratedLoss:
    """Difficulty-calibrated loss (Watson et al. 2022).

    The score is the target's log true-class confidence minus its mean over the OUT models. A
    sample without OUT models borrows that mean, see `Panel.completed`.
    """

    paper: str
    needs: frozenset[str] = frozenset({"reference"})

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool; see `privet.attacks.Attack`."""

        def score(log_p: FloatArray, panel: Panel) -> FloatArray:
            return np.asarray(log_p - panel.means[1])

        return _calibrated(evidence, confidence, score, online=False)


@dataclass(frozen=True)
class RMIA:
    """Relative attack (Zarifzadeh et al. 2024, section 3): x against population samples z.

    With ``ratio_x = p_target(x) / p(x)``, the score is the share of population samples z for
    which ``ratio_x / ratio_z >= gamma``. Online, p(x) is the average of the IN and the OUT mean
    of the reference models' confidences. Offline, it is ``((1 + a) p_out + (1 - a)) / 2``, which
    takes p_in to be ``a p_out + 1 - a``; the same line stands in online where a sample has no IN
    models. A missing OUT mean is borrowed, see `Panel.completed`.

    The population is the shadow samples, of which none is the target's member
    (`Evidence.population`); without it, the audit pool itself. Either way all x meet the same z,
    so the share is a step function of ratio_x. Each of its steps ties samples, the last one those
    that low false positive rates are about. So within a step samples are ranked by ratio_x: with
    Z population samples the score is ``(count + ratio_x / (1 + ratio_x)) / (Z + 1)``, in (0, 1),
    and the integer part of ``score * (Z + 1)`` is the paper's count. Population and gamma then
    set the scale of the scores, on which thresholds are learned, and not their order.

    All is computed from logarithms of softmax confidences, and by sorting: O(n log n) time, no
    matrix of pairs.

    Parameters
    ----------
    online
        Whether to use IN models too.
    gamma
        By which factor x must exceed z, at least 1; the authors' code uses 1.
    a
        The offline coefficient, in [0, 1]. None takes the one among 0, 0.1 ... 1 that has the
        best mean AUC where each shadow model in turn plays the target, the smallest of equals;
        without shadow models, `DEFAULT_A`.
    """

    paper: str
    online: bool = True
    gamma: float = 1.0
    a: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.gamma < np.inf:
            raise OptionError(f"gamma must be finite and at least 1; got {self.gamma}")
        if self.a is not None and not 0 <= self.a <= 1:
            raise OptionError(f"a must lie in [0, 1], or be None to be chosen; got {self.a}")

    @property
    def needs(self) -> frozenset[str]:
        """See `privet.attacks.Attack`."""
        return _needs(self.online)

    def attack(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """Score the audit pool; see `privet.attacks.Attack`."""
        panel, known = _panels(evidence, confidence, online=self.online)
        a = self._choose(known)
        ratios = self._ratios(confidence(evidence.target), panel, a)[0]
        population = self._population(evidence, a)
        scores = share(ratios, ratios if population is None else population, gamma=self.gamma)
        if known is None:
            return Verdict(scores)
        # Where the population holds no members of the target, it must hold none of the shadow's.
        known_scores = np.stack(
            [
                share(own, own if population is None else own[~members], gamma=self.gamma)
                for own, members in zip(
                    self._ratios(known.values, known, a), known.inside, strict=True
                )
            ]
        )
        seen = _told(known, online=self.online)
        return Verdict(scores, balanced_threshold(known_scores[seen], known.inside[seen]))

    def _ratios(self, log_p: FloatArray, panel: Panel, a: float) -> FloatArray:
        """Return log ratio_x; shape (rows, samples)."""
        inside, outside = panel.log_means
        with np.errstate(divide="ignore"):  # a = 0 and a = 1 leave out one of the two terms
            expected = np.logaddexp(np.log(a) + outside, np.log1p(-a))
        if self.online:
            expected = np.where(panel.counts[0] > 0, inside, expected)
        return np.asarray(log_p - np.logaddexp(expected, outside) + np.log(2))

    def _population(self, evidence: Evidence, a: float) -> FloatArray | None:
        if evidence.population is None:
            return None
        shadow, members = evidence.known()
        panel = Panel(shadow.each(confidence), members)
        return np.asarray(self._ratios(confidence(evidence.population), panel, a)[0])

    def _choose(self, known: Panel | None) -> float:
        if self.a is not None:
            return self.a
        if known is None:
            return DEFAULT_A
        seen = _told(known, online=self.online)

        def mean_auc(a: float) -> float:
            rows = zip(self._ratios(known.values, known, a), known.inside, seen, strict=True)
            told = [(own[here], members[here]) for own, members, here in rows]
            areas = [auc(own, inside) for own, inside in told if inside.any() and not inside.all()]
            return float(np.mean(areas)) if areas else 0.5

        return float(max(np.linspace(0, 1, 11), key=mean_auc))


def share(ratios: FloatArray, population: FloatArray, *, gamma: float) -> FloatArray:
    """Return RMIA's scores in (0, 1) from logarithms of ratio_x and ratio_z; see `RMIA`."""
    count = np.searchsorted(np.sort(population), ratios - np.log(gamma), side="right")
    return np.asarray((count + expit(ratios)) / (len(population) + 1))


Score = Callable[[FloatArray, Panel], FloatArray]


def _calibrated(evidence: Evidence, metric: Metric, score: Score, *, online: bool) -> Verdict:
    """Score the target against the references, and each shadow model against the others."""
    panel, known = _panels(evidence, metric, online=online)
    scores = score(metric(evidence.target), panel)[0]
    if known is None:
        return Verdict(scores)
    seen = _told(known, online=online)
    known_scores = score(known.values, known)
    return Verdict(scores, balanced_threshold(known_scores[seen], known.inside[seen]))


def _told(known: Panel, *, online: bool) -> BoolArray:
    """Return which answers of the shadow models have a side of their own to be compared with.

    Leaving one model out leaves some samples without OUT (online, without IN) models. Their
    borrowed means lie elsewhere, and more often so for nonmembers, so no rule is learned on them.
    """
    counts_in, counts_out = known.counts
    seen = (counts_out > 0) & ((counts_in > 0) | (not online))
    among = known.inside[seen]
    return seen if among.any() and not among.all() else np.ones_like(seen)


def _panels(evidence: Evidence, metric: Metric, *, online: bool) -> tuple[Panel, Panel | None]:
    """Return the reference models' panel, and one of models to learn from where there are any."""
    reference, inside = evidence.calibration()
    if inside.all():
        raise EvidenceError(
            "every reference model trained on every audited sample; add models that did not"
        )
    if online and not inside.any():
        raise EvidenceError(
            "no reference model trained on an audited sample; use the attack's offline variant"
        )
    panel = Panel(reference.each(metric), inside)
    if evidence.shadow is not None:
        shadow, members = evidence.known()
        if shadow.models >= FEWEST_SHADOWS:
            return panel, Panel(shadow.each(metric), members, in_turn=True)
    if reference.models >= FEWEST_SHADOWS and inside.any():
        return panel, Panel(panel.values, inside, in_turn=True)
    return panel, None


def _needs(online: bool) -> frozenset[str]:
    return frozenset({"reference", "online"}) if online else frozenset({"reference"})
