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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from privet.errors import OptionError
from privet.fit import Pass, Setup
from privet.signals import FloatArray, IntArray

WEMEM = (
    "Shang et al., WeMem: Weakening Memorization in Iterative Pruning against Membership "
    "Inference Attacks, NDSS 2025"
)
Order = Literal["high-to-low", "low-to-high"]


def ranks_in_class(scores: FloatArray, labels: IntArray, order: Order) -> IntArray:
    """Return each sample's rank among its class in the given order of scores; shape (samples,).

    Rank 0 comes first. Ties keep the samples' own order.
    """
    key = -scores if order == "high-to-low" else scores
    by_class_then_score = np.lexsort((key, labels))
    sizes = np.bincount(labels)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class_then_score] = np.arange(len(labels)) - first
    return ranks


def window(setup: Setup, *, width: int, stride: int, order: Order, restart: bool) -> Setup:
    """Let epoch e see only the ranks ``[stride * e, stride * e + width)`` of each class.

    Each class wraps around at its own end, so that all data gets used and a small class does not
    narrow the window of the others (the public code's clipping does). With ``restart`` every
    round begins at rank 0 again, as published; without, the window moves on where the last round
    stopped.
    """
    _check_window(width, stride, order)
    labels = setup.labels.numpy()
    ranks = ranks_in_class(_scores(setup), labels, order)
    class_size = np.bincount(labels)[labels]
    offset = 0 if restart else setup.first_epoch

    def passes(epoch: int) -> Sequence[Pass]:
        start = stride * (epoch + offset)
        inside = torch.from_numpy((ranks - start) % class_size < width)
        return [
            replace(each, indices=each.indices[inside[each.indices]])
            for each in setup.epoch_passes(epoch)
        ]

    return replace(setup, passes=passes)


def regularize_risk(setup: Setup, *, threshold: float, weight_decay: float) -> Setup:
    """Train samples with ``score >= threshold`` after the others, with a weight decay of their own.

    Decision where the paper is silent: each epoch visits the rest first and the risky samples
    last, with one optimizer, so Adam's moments are shared.
    """
    _check_risk(threshold, weight_decay)
    risky = torch.from_numpy(_scores(setup) >= threshold)

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

    Defaults are the published settings for Location (images: width 500, stride 50).
    """

    width: int = 15
    stride: int = 1
    order: Order = "low-to-high"
    restart: bool = True

    paper: ClassVar[str] = WEMEM
    needs_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_window(self.width, self.stride, self.order)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""
        return window(
            setup, width=self.width, stride=self.stride, order=self.order, restart=self.restart
        )


@dataclass(frozen=True)
class RMR:
    """Risk regularization, for scenario "inherent memorability".

    Defaults are the published settings for Location (images: threshold 0.5).
    """

    threshold: float = 0.6
    risk_weight_decay: float = 0.1

    paper: ClassVar[str] = WEMEM
    needs_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_risk(self.threshold, self.risk_weight_decay)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""
        return regularize_risk(setup, threshold=self.threshold, weight_decay=self.risk_weight_decay)


@dataclass(frozen=True)
class SWMR:
    """Window + order + risk regularization, for both scenarios together.

    Defaults are the published settings for Location (images: width 500, stride 100,
    threshold 0.5), but for ``restart``: published, every round begins again with the samples
    most at risk, and the others are hardly ever seen (``benchmarks/window_restart.py``).
    """

    width: int = 15
    stride: int = 1
    order: Order = "high-to-low"
    restart: bool = False
    threshold: float = 0.6
    risk_weight_decay: float = 0.1

    paper: ClassVar[str] = WEMEM
    needs_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_window(self.width, self.stride, self.order)
        _check_risk(self.threshold, self.risk_weight_decay)

    def start(self, setup: Setup) -> Setup:
        """Return the setup of one round; see `privet.defenses.Defense`."""
        windowed = window(
            setup, width=self.width, stride=self.stride, order=self.order, restart=self.restart
        )
        return regularize_risk(
            windowed, threshold=self.threshold, weight_decay=self.risk_weight_decay
        )


def _check_window(width: int, stride: int, order: Order) -> None:
    if width < 1 or stride < 0:
        raise OptionError(
            f"the window needs width >= 1 and stride >= 0; got width {width}, stride {stride}"
        )
    if order not in get_args(Order):
        raise OptionError(f"the order must be one of {', '.join(get_args(Order))}; got {order!r}")


def _check_risk(threshold: float, weight_decay: float) -> None:
    if not math.isfinite(threshold):
        raise OptionError(f"the risk threshold must be a finite score; got {threshold}")
    if not 0 <= weight_decay < math.inf:
        raise OptionError(
            f"the risk weight decay must be finite and at least 0; got {weight_decay}"
        )


def _scores(setup: Setup) -> FloatArray:
    if setup.scores is None:
        raise OptionError("this defense ranks samples by memorization: setup.scores is missing")
    if setup.scores.shape != setup.labels.shape or not np.isfinite(setup.scores).all():
        raise OptionError(
            f"memorization scores must be finite, one a sample ({len(setup.labels)}); "
            f"got shape {setup.scores.shape}"
        )
    return setup.scores
