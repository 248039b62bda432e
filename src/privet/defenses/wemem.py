"""WeMem (Shang et al., NDSS 2025): weaken memorization while pruning iteratively.

Three primitives, each a function from setup to setup, and the three methods they compose to:

====== ======================== ==========================================================
method primitives               against
====== ======================== ==========================================================
RSW    window + order           data reuse: every round trains on the same samples again
RMR    risk regularization      inherent memorability: some samples are remembered easily
SWMR   all three                both together
====== ======================== ==========================================================
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from privet.defenses.base import check_at_least
from privet.errors import OptionError
from privet.fit import Pass, Setup
from privet.seeds import generator
from privet.signals import FloatArray, IntArray

WEMEM = (
    "Shang et al., WeMem: Weakening Memorization in Iterative Pruning against Membership "
    "Inference Attacks, NDSS 2025"
)
Order = Literal["high-to-low", "low-to-high", "random"]
_ORDER_SEED = 0  # of the random order, the control that says whether ranking matters at all


def ranks_in_class(scores: FloatArray, labels: IntArray, order: Order) -> IntArray:
    """Return each sample's rank among its class in the given order of scores; shape (samples,).

    Rank 0 comes first. Ties keep the samples' own order. The random order is the same in every
    round.
    """
    key = -scores if order == "high-to-low" else scores
    if order == "random":
        key = generator(_ORDER_SEED, "random order").random(len(scores))
    by_class_then_score = np.lexsort((key, labels))
    sizes = np.bincount(labels)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class_then_score] = np.arange(len(labels)) - first
    return ranks


def window(
    setup: Setup,
    *,
    width: float,
    stride: float,
    order: Order,
    restart: bool,
    relative: bool = False,
) -> Setup:
    """Let epoch e see only the ranks ``[stride * e, stride * e + width)`` of each class.

    Each class wraps around at its own end, so that all data gets used and a small class does not
    narrow the window of the others (the public code's clipping does). With ``restart`` every
    round begins at rank 0 again, as published; without, the window moves on where the last round
    stopped. ``relative`` width and stride are fractions of each class's size, rounded up: samples
    do not carry over from one data set to another.
    """
    _check_window(width, stride, order=order, relative=relative)
    labels = setup.labels.numpy()
    ranks = ranks_in_class(memorization_of(setup), labels, order)
    class_size = np.bincount(labels)[labels]
    unit = class_size if relative else 1
    offset = 0 if restart else setup.first_epoch

    def passes(epoch: int) -> Sequence[Pass]:
        start = _rounded_up(stride * (epoch + offset) * unit)
        inside = torch.from_numpy((ranks - start) % class_size < _rounded_up(width * unit))
        return [
            replace(each, indices=each.indices[inside[each.indices]])
            for each in setup.epoch_passes(epoch)
        ]

    return replace(setup, passes=passes)


def _rounded_up(counts: float | FloatArray) -> FloatArray:
    # A tenth of thirty samples is three, though 0.1 * 3 * 10 is a little more in floating point.
    return np.asarray(np.ceil(np.round(counts, 6)))


def regularize_risk(
    setup: Setup, *, threshold: float, weight_decay: float, quantile: bool = False
) -> Setup:
    """Train samples with ``score >= threshold`` after the others, with a weight decay of their own.

    With ``quantile`` the threshold is one of the scores' distribution: 0.9 takes the tenth of the
    samples that score highest. A bare score does not carry over from one data set to another.

    Decision where the paper is silent: each epoch visits the rest first and the risky samples
    last, with one optimizer, so Adam's moments are shared.
    """
    _check_risk(threshold, weight_decay, quantile=quantile)
    scores = memorization_of(setup)
    risky = torch.from_numpy(scores >= (np.quantile(scores, threshold) if quantile else threshold))

    def passes(epoch: int) -> Sequence[Pass]:
        split: list[Pass] = []
        for each in setup.epoch_passes(epoch):
            at_risk = risky[each.indices]
            split.append(replace(each, indices=each.indices[~at_risk]))
            split.append(Pass(each.indices[at_risk], weight_decay))
        return split

    return replace(setup, passes=passes)


@dataclass(frozen=True)
class RSW:
    """Window + order, for scenario "data reuse".

    Defaults are the published settings for Location (images: width 500, stride 50). For the
    options see `window`.
    """

    width: float = 15.0
    stride: float = 1.0
    order: Order = "low-to-high"
    restart: bool = True
    relative: bool = False

    paper: ClassVar[str] = WEMEM
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        _check_window(self.width, self.stride, order=self.order, relative=self.relative)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""
        return window(
            setup,
            width=self.width,
            stride=self.stride,
            order=self.order,
            restart=self.restart,
            relative=self.relative,
        )


@dataclass(frozen=True)
class RMR:
    """Risk regularization, for scenario "inherent memorability".

    Defaults are the published settings for Location (images: threshold 0.5). For the options see
    `regularize_risk`.
    """

    threshold: float = 0.6
    risk_weight_decay: float = 0.1
    quantile: bool = False

    paper: ClassVar[str] = WEMEM
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        _check_risk(self.threshold, self.risk_weight_decay, quantile=self.quantile)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""
        return regularize_risk(
            setup,
            threshold=self.threshold,
            weight_decay=self.risk_weight_decay,
            quantile=self.quantile,
        )


@dataclass(frozen=True)
class SWMR:
    """Window + order + risk regularization, for both scenarios together.

    Defaults are the published settings for Location (images: width 500, stride 100,
    threshold 0.5), but for ``restart``: published, every round begins again with the samples
    most at risk, and the others are hardly ever seen (``benchmarks/window_restart.py``). For the
    options see `window` and `regularize_risk`.
    """

    width: float = 15.0
    stride: float = 1.0
    order: Order = "high-to-low"
    restart: bool = False
    relative: bool = False
    threshold: float = 0.6
    risk_weight_decay: float = 0.1
    quantile: bool = False

    paper: ClassVar[str] = WEMEM
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    whole: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        _ = self._window, self._risk  # both check their options

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""
        return self._risk.start(self._window.start(setup))

    @property
    def _window(self) -> RSW:
        return RSW(self.width, self.stride, self.order, self.restart, self.relative)

    @property
    def _risk(self) -> RMR:
        return RMR(self.threshold, self.risk_weight_decay, self.quantile)


def _check_window(width: float, stride: float, *, order: Order, relative: bool) -> None:
    if order not in get_args(Order):
        raise OptionError(f"the order must be one of {', '.join(get_args(Order))}; got {order!r}")
    if relative and not (0 < width <= 1 and 0 <= stride <= 1):
        raise OptionError(
            f"a relative window needs width in (0, 1] and stride in [0, 1]; got width {width}, "
            f"stride {stride}"
        )
    if not relative and not (width >= 1 and stride >= 0 and width % 1 == stride % 1 == 0):
        raise OptionError(
            f"the window needs whole numbers, width >= 1 and stride >= 0, or relative=true for "
            f"fractions of a class; got width {width}, stride {stride}"
        )


def _check_risk(threshold: float, weight_decay: float, *, quantile: bool) -> None:
    if not math.isfinite(threshold) or (quantile and not 0 <= threshold <= 1):
        raise OptionError(
            f"the risk threshold must be a finite score, or with quantile=true lie in [0, 1]; "
            f"got {threshold}"
        )
    check_at_least("risk_weight_decay", weight_decay, 0)


def memorization_of(setup: Setup) -> FloatArray:
    """Return the setup's memorization scores, shape (samples,); `OptionError` without them."""
    if setup.scores is None:
        raise OptionError("this defense ranks samples by memorization: setup.scores is missing")
    if setup.scores.shape != setup.labels.shape or not np.isfinite(setup.scores).all():
        raise OptionError(
            f"memorization scores must be finite, one a sample ({len(setup.labels)}); "
            f"got shape {setup.scores.shape}"
        )
    return setup.scores
