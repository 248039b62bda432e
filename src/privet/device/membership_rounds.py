"""The rounds of Algorithm 2 for many confidence vectors at once, each a column of its arrays.

Every vector is at a round and a step of its own, so that the arrays stay wide. What a step costs
is passes over memory, so they are few and in float32. The label's logit is the origin of all
others, and the noise is relative to the label's: written so, nothing cancels or overflows,
however near a vector is to one-hot. Gradients are known up to a positive factor, which a step of
fixed length never sees. What the search finds counts only once double precision agrees.

Every round runs to its last step. Two rules that stop it early were measured on vectors of
Location, and left out. One is proven: while c3 outweighs the slope of h, no step's direction leads
away from no noise, so that t steps end within 0.1 sqrt(t) of it, and interval bounds of the
network on that ball tell that h keeps its sign. It spares 1 to 11 % of the steps, before its own
cost. The other gives up rounds that after 80 steps are not on course: it spares 60 %, but 0.3 % of
the vectors lose their last round.
"""

from dataclasses import dataclass

import numpy as np

from privet.device.matrices import logits_of, room
from privet.device.network import Bools, Float32, Float64, Ints, Network, softmax

STEP = 0.1
MEMBERSHIP_WEIGHT = 1.0  # c1
LABEL_WEIGHT = 10.0  # c2
DISTORTION_WEIGHTS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)  # c3, one round each
FARTHEST = -80.0  # no round climbs this far: logits below cannot come to matter
HIGHEST = 40.0  # where another class's odds against the label count as infinite
THIN = 0.9  # finished columns are dropped once no more than this share is still searching
WIDE = 64  # least units of a layer among which looking for inactive ones pays

_Layer = tuple[Ints | slice, Float32]  # which of a layer's units are on, and their activations


class Detector:
    """The defense model, its records in columns and its gradient relative to the label's row.

    Units of a wide layer that no record activates are left out of all products: zeros add nothing.

    Attributes
    ----------
    batch
        How many records are best searched at once: fewer, if alike, leave out more units, and of a
        network of many thousand units more would not fit into memory.
    """

    def __init__(self, network: Network) -> None:
        first = network.weights[0]
        self._network = network
        # Confidences sum to one: the first bias may as well be part of every weight.
        self._first = first + network.biases[0][:, None]
        self._back = first[:, :-1] - first[:, -1:]
        self._deeper = [np.ascontiguousarray(weight.T) for weight in network.weights[1:]]
        self._biases = [bias[:, None] for bias in network.biases[1:]]
        best = 1024 if max(network.sizes[1:]) >= WIDE else 2048
        self.batch = min(best, room(network, copies=4))

    def forward(self, confidences: Float32) -> tuple[Float32, list[_Layer]]:
        """Return h and every hidden layer for confidences of shape (k, n)."""
        layers = []
        values = self._first @ confidences
        for weight, bias in zip(self._deeper, self._biases, strict=True):
            wide = len(values) >= WIDE
            on = np.flatnonzero(values.max(axis=1) > 0) if wide else slice(None)
            units = values[on]
            layers.append((on, np.maximum(units, 0, out=units)))
            values = weight[on].T @ units
            values += bias
        return values[0], layers

    def slope(self, layers: list[_Layer], factor: Float32) -> Float32:
        """Return ``factor`` times dh/ds, less its last row: shape (k - 1, n)."""
        on, units = layers[-1]
        gradient: Float32 = self._deeper[-1][on] * factor
        gradient *= units > 0
        for weight, (before, units) in zip(self._deeper[-2::-1], layers[-2::-1], strict=True):
            gradient = weight[before][:, on] @ gradient
            gradient *= units > 0
            on = before
        return np.asarray(self._back[on].T @ gradient)

    def decide(self, confidences: Float64) -> Float64:
        """Return h for sorted confidences in rows, as the network computes it; shape (n,)."""
        return logits_of(self._network, confidences)[:, 0].astype(np.float64)


class Rounds:
    """The search for some vectors, from no noise to the first round that fails.

    A round minimizes ``|h| + 10 relu(runner-up - label) + c3 ||after - before||_1`` until h
    changes sign and the label holds. A vector that gets there starts the next round from no noise.

    Parameters
    ----------
    detector
        The defense model.
    z
        Shape (n, k): logits in ascending order of confidence; the last column is the label's.
    h
        Shape (n,): what the defense model says of their confidences, nowhere zero.

    Attributes
    ----------
    passed
        Shape (n,): how many rounds each vector has passed.
    best, h_best
        Shapes (n, k) and (n,): the last good round's confidences, and h of them; where none is
        passed they mean nothing.
    """

    def __init__(self, detector: Detector, z: Float64, h: Float64) -> None:
        self._detector, self._z, self._h = detector, z, h
        self.passed = np.zeros(len(z), dtype=np.intp)
        self.best, self.h_best = np.zeros_like(z), np.zeros(len(z))

    def run(self, max_steps: int) -> None:
        """Search, with at most ``max_steps`` steps a round."""
        relative = np.maximum((self._z[:, :-1] - self._z[:, -1:]).T, FARTHEST)
        start, side = relative.astype(np.float32, order="C"), np.sign(self._h).astype(np.float32)
        noise = np.zeros_like(start)
        odds = _locate(start, noise).odds
        live, taken = np.arange(len(self._z)), np.zeros(len(self._z), dtype=np.intp)
        weights = np.array([*DISTORTION_WEIGHTS, np.inf], dtype=np.float32)
        while live.size:
            point = _locate(start, noise)
            h, layers = self._detector.forward(point.confidences)
            flipped = np.flatnonzero((h * side <= 0) & (point.top < 0) & (taken <= max_steps))
            # The step below is taken in this round still, by the flipped in vain.
            weight = weights[self.passed[live]]
            if flipped.size:
                flipped = flipped[self._keep(live[flipped], noise[:, flipped])]
            pull = self._detector.slope(layers, np.sign(h) * (MEMBERSHIP_WEIGHT / weight))
            drift = np.log1p((point.odds - odds) / (1 + odds))
            moved = _descend(noise, point, pull, drift=drift, weight=weight)
            taken = np.where(moved, taken + 1, max_steps + 1)
            if flipped.size:
                last = self.passed[live[flipped]] == len(DISTORTION_WEIGHTS)
                noise[:, flipped], taken[flipped] = 0, np.where(last, max_steps + 1, 0)
            going = taken <= max_steps
            if np.count_nonzero(going) <= THIN * len(live):
                live, taken, side, odds = live[going], taken[going], side[going], odds[going]
                # Indexing would leave columns contiguous, and every later step slow.
                start, noise = (np.compress(going, a, axis=1) for a in (start, noise))

    def _keep(self, rows: Ints, noise: Float32) -> Bools:
        """Write down those of the results that double precision confirms; returns which."""
        shifted = self._z[rows]
        shifted[:, :-1] += noise.T
        confidences = softmax(shifted)
        h = self._detector.decide(confidences)
        sure = (self._h[rows] * h <= 0) & (confidences[:, -1] > confidences[:, :-1].max(axis=1))
        rows = rows[sure]
        self.passed[rows] += 1
        self.best[rows], self.h_best[rows] = confidences[sure], h[sure]
        return np.asarray(sure)


@dataclass(frozen=True, eq=False)
class _Point:
    """Where n searches stand: logits relative to the label's, and what follows from them.

    ``top`` is the largest logit, ``powers`` are those of all less ``top``, shape (k - 1, n),
    ``total`` is their sum; ``odds`` are everybody's against the label, ``confidences`` all k.
    """

    top: Float32
    powers: Float32
    total: Float32
    odds: Float32
    confidences: Float32


def _locate(start: Float32, noise: Float32) -> _Point:
    powers = start + noise
    top = powers.max(axis=0)
    powers -= top
    np.exp(powers, out=powers)
    total = powers.sum(axis=0)
    largest = np.exp(np.minimum(top, HIGHEST))
    odds = largest * total
    label = 1 / (1 + odds)
    confidences = np.empty((len(start) + 1, start.shape[1]), dtype=np.float32)
    np.multiply(powers, largest * label, out=confidences[:-1])
    confidences[-1] = label
    return _Point(top, powers, total, odds, confidences)


def _descend(
    noise: Float32, point: _Point, pull: Float32, *, drift: Float32, weight: Float32
) -> Bools:
    """Move ``noise`` one step against the gradient; returns which columns had one.

    ``pull``, which is overwritten, is the derivative of c1 |h| / c3 by every confidence, less that
    by the label's. ``drift`` is by how much the logarithm of the label's confidence has fallen:
    noise above it has raised a confidence, noise below has lowered it.
    """
    work = noise - drift
    pull += np.sign(work, out=work)
    label, label_pull = point.confidences[-1], -np.sign(drift)
    others = point.odds * label
    mean = np.einsum("ij,ij->j", point.powers, pull) / point.total - label_pull
    # The softmax's Jacobian, up to the factor others / total.
    pull -= label_pull + others * mean
    pull *= point.powers
    label_gradient = -label * mean * point.total
    lost = np.flatnonzero(point.top > 0)
    if lost.size:
        push = LABEL_WEIGHT / weight[lost] * point.total[lost] / others[lost]
        pull[point.powers[:, lost].argmax(axis=0), lost] += push
        label_gradient[lost] -= push
    with np.errstate(over="ignore"):
        norm = np.sqrt(np.einsum("ij,ij->j", pull, pull) + label_gradient * label_gradient)
    vast = np.flatnonzero(np.isinf(norm))
    if vast.size:  # their squares are beyond float32: shrink them first
        scale = np.maximum(np.abs(pull[:, vast]).max(axis=0), np.abs(label_gradient[vast]))
        pull[:, vast] /= scale
        label_gradient[vast] /= scale
        squares = np.einsum("ij,ij->j", pull[:, vast], pull[:, vast])
        norm[vast] = np.sqrt(squares + label_gradient[vast] ** 2)
    moved = norm > 0
    length = np.float32(STEP) / np.where(moved, norm, np.float32(np.inf))
    pull *= length
    noise -= pull
    noise += label_gradient * length
    return np.asarray(moved)
