"""Algorithm 2, phase I: noise on a confidence vector that makes the defense model undecided.

SP-ASPP section 4.3, with MemGuard's search filled in. The defense model's one logit h is positive
when it takes the confidence vector, sorted ascending, for that of a training member.

Decisions where the paper is loose: at most 299 steps a round, as the printed loop counts them;
the first round that fails ends a vector's search and its last good round stands; a gradient of
exactly zero, or a defense model that is undecided from the start, means no noise; the L1 term
adds nothing to the first step, where its sign would be rounding error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from privet.device.matrices import one_for_each
from privet.device.membership_rounds import Detector, Rounds
from privet.device.network import Array, Bools, Float64, Ints, Network, sigmoid, softmax
from privet.errors import DataError, OptionError
from privet.progress import track

UNDECIDED = 1e-5  # |g - 0.5| at or below which a vector needs no noise
FLOOR = 1e-30  # smallest confidence that `log_confidences` tells from zero
MAX_STEPS = 299  # a round, as the printed loop counts them
BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Noise:
    """What `find_noise` found for n confidence vectors of k classes.

    Parameters
    ----------
    before, after
        Shape (n, k), float64: confidences without and with the noise; equal where none was found.
        Both have their largest entry, ``label``, in the same place.
    label
        Shape (n,): the class predicted before and after.
    distance
        Shape (n,): L1 distance between ``before`` and ``after``.
    g_before, g_after
        Shape (n,): the defense model's membership probability.
    found
        Shape (n,): whether any round flipped the defense model's decision with the label kept.
    """

    before: Float64
    after: Float64
    label: Ints
    distance: Float64
    g_before: Float64
    g_after: Float64
    found: Bools


def log_confidences(confidences: Array, first: int = 0) -> Float64:
    """Return logits whose softmax is ``confidences``, from probabilities that may be zero.

    Entries below 1e-30 count as 1e-30. Rows must be non-negative and sum to 1 within 1e-3;
    errors count them from ``first``.

    Raises
    ------
    DataError
        On rows that are no probability vectors, naming the first.
    """
    sums = confidences.sum(axis=1)
    wrong = ~((confidences >= 0).all(axis=1) & (abs(sums - 1) <= 1e-3))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"record {first + row} is no probability vector (it sums to {sums[row]:g}); "
            f"give confidences, or say that these are logits"
        )
    return np.log(np.maximum(confidences, FLOOR, dtype=np.float64))


def find_noise(network: Network, logits: Array, *, max_steps: int = MAX_STEPS) -> Noise:
    """Search noise on each vector of logits that flips the defense model and keeps the label.

    Every round minimizes ``|h| + 10 relu(runner-up - label) + c3 ||after - before||_1`` by steps of
    length 0.1 along the normalized gradient, from no noise until h changes sign. Rounds weigh the
    distortion ten times more each, from c3 = 0.1 to 1e5. Vectors that finish leave the batch.

    Parameters
    ----------
    network
        The defense model: k inputs (confidences sorted ascending), one output h.
    logits
        Shape (n, k), finite, k at least 2. The label is the largest confidence, the first of
        equals.
    max_steps
        Most steps a round. Fewer save time, since a round that fails takes all of them; but vectors
        whose last good round needs more lose it, and are moved farther than need be.

    Raises
    ------
    DataError
        On a wrong shape or logits that are not finite.
    OptionError
        When the network does not have exactly one output.
    """
    if network.sizes[-1] != 1:
        raise OptionError(f"the defense model must have one output; got {network.sizes[-1]}")
    if max_steps < 1:
        raise OptionError(f"max_steps must be at least 1; got {max_steps}")
    k = network.sizes[0]
    if logits.ndim != 2 or logits.shape[1] != k or k < 2 or len(logits) == 0:
        raise DataError(f"logits must have shape (n, {k}), n at least 1; got {logits.shape}")
    if not np.isfinite(logits).all():
        row = int((~np.isfinite(logits)).any(axis=1).argmax())
        raise DataError(f"record {row} holds NaN or infinite logits")
    starts = track(range(0, len(logits), BLOCK), "Searching membership noise")
    parts = [_search_block(network, logits[at : at + BLOCK], max_steps) for at in starts]
    return Noise(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _search_block(network: Network, logits: Array, max_steps: int) -> tuple[Array | Bools, ...]:
    """Run all rounds for some vectors; returns the fields of `Noise` in order."""
    detector = Detector(network)
    before = softmax(logits)
    # Ascending, and the first of equal maxima last: the label's column is the last one.
    order = before.shape[1] - 1 - np.argsort(before[:, ::-1], axis=1, kind="stable")
    z = np.take_along_axis(logits.astype(np.float64), order, axis=1)
    best = softmax(z)
    h = detector.decide(best)
    h_after, found = h.copy(), np.zeros(len(z), dtype=np.bool_)
    decided = np.flatnonzero(abs(sigmoid(h) - 0.5) > UNDECIDED)
    decided = decided[np.argsort(h[decided])]  # records that are alike, in the same batch
    for at in range(0, len(decided), detector.batch):
        rows = decided[at : at + detector.batch]
        rounds = Rounds(detector, z[rows], h[rows])
        rounds.run(max_steps)
        good = rounds.passed > 0
        rows = rows[good]
        best[rows], h_after[rows], found[rows] = rounds.best[good], rounds.h_best[good], True
    # Noise may have shuffled the entries; only the original order undoes the sorting.
    after = np.empty_like(best)
    np.put_along_axis(after, order, best, axis=1)
    after[~found] = before[~found]
    distance = abs(after - before).sum(axis=1)
    return before, after, order[:, -1], distance, sigmoid(h), sigmoid(h_after), found


def release_probability(noise: Noise, budget: ArrayLike) -> Float64:
    """Return the probability with which each vector's noise is added; shape (n,).

    ``min(1, budget / L1 distance)``, so that the expected distance is at most ``budget`` (one
    number, or one a record); 0 where the noise leaves the defense model no less decided.
    """
    limit = one_for_each(budget, len(noise.found), "budget")
    better = abs(noise.g_after - 0.5) < abs(noise.g_before - 0.5)
    probability = np.where(better, 1.0, 0.0)
    over = better & (noise.distance > limit)
    probability[over] = limit[over] / noise.distance[over]
    return probability
