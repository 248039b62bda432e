"""What models that did, and models that did not, train on a sample say of it.

*IN* models trained on a sample, *OUT* models did not. A panel answers with the IN and the OUT mean
and variance of every sample: over all models, or over all but one, for each one in turn.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from privet.signals import BoolArray, FloatArray

Pair = tuple[FloatArray, FloatArray]

LEAST_SPREAD = 1e-4
"""Least variance of a sample, as a share of the variance over all samples."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One number a model and sample, and whether that model trained on that sample.

    Parameters
    ----------
    values
        Shape (models, samples).
    inside
        Shape (models, samples), bool: IN where true.
    in_turn
        Whether each model is in turn left out, to be compared with the others. Results then have
        shape (models, samples), with a row for the model left out. Otherwise their shape is
        (1, samples), over all models.
    """

    values: FloatArray
    inside: BoolArray
    in_turn: bool = False

    @cached_property
    def counts(self) -> Pair:
        """The number of IN and of OUT models, as floating-point numbers."""
        inside, outside = (self._total(np.add, side.astype(np.float64)) for side in self._sides)
        return inside, outside

    @cached_property
    def means(self) -> Pair:
        """The IN and the OUT mean; see `completed` for samples that lack a side."""
        inside, outside = (self._center + mean for mean in self._shifts)
        return self.completed(inside, outside)

    @cached_property
    def log_means(self) -> Pair:
        """The logarithms of the IN and the OUT mean of ``exp(values)``, completed likewise."""
        inside, outside = (
            self._total(np.logaddexp, np.where(side, self.values, -np.inf))
            - np.log(np.maximum(count, 1))
            for side, count in zip(self._sides, self.counts, strict=True)
        )
        return self.completed(inside, outside)

    def completed(self, inside: FloatArray, outside: FloatArray) -> Pair:
        """Return IN and OUT means, filled in where a sample has no model on that side.

        The missing mean is the present one, moved by the average distance between the two over
        the samples that have both. If none has, it is the distance between the averages of all
        IN and all OUT means.
        """
        some_in, some_out = (count > 0 for count in self.counts)
        both = some_in & some_out
        paired = both.any(axis=1, keepdims=True)
        distance = _average(inside, np.where(paired, both, some_in)) - _average(
            outside, np.where(paired, both, some_out)
        )
        return (
            np.where(some_in, inside, outside + distance),
            np.where(some_out, outside, inside - distance),
        )

    def fixed_variances(self) -> Pair:
        """Return one IN and one OUT variance for all samples; shape (rows, 1), positive.

        They are pooled within samples: squared deviations from each sample's own mean, over
        ``models - 1`` degrees of freedom a sample. A side without any takes the other's variance;
        if neither has any, both are one.
        """
        free_in, free_out = (
            np.maximum(count - 1, 0).sum(axis=1, keepdims=True) for count in self.counts
        )
        inside, outside = (
            np.maximum(
                squares.sum(axis=1, keepdims=True) / np.maximum(free, 1), np.finfo(float).eps
            )
            for squares, free in zip(self._squares, (free_in, free_out), strict=True)
        )
        neither = (free_in == 0) & (free_out == 0)
        return (
            np.where(neither, 1.0, np.where(free_in > 0, inside, outside)),
            np.where(neither, 1.0, np.where(free_out > 0, outside, inside)),
        )

    def variances(self) -> Pair:
        """Return the unbiased IN and OUT variance of every sample, positive.

        Where a side has fewer than two models, the fixed variance stands in. No variance is less
        than `LEAST_SPREAD` of the fixed one: models that happen to agree prove no certainty.
        """
        inside, outside = (
            np.where(
                count > 1,
                np.maximum(squares / np.maximum(count - 1, 1), LEAST_SPREAD * fixed),
                fixed,
            )
            for squares, count, fixed in zip(
                self._squares, self.counts, self.fixed_variances(), strict=True
            )
        )
        return inside, outside

    @property
    def _sides(self) -> tuple[BoolArray, BoolArray]:
        return self.inside, ~self.inside

    @cached_property
    def _center(self) -> FloatArray:
        # Deviations from the median keep their precision beside one model's huge value.
        return np.asarray(np.median(self.values, axis=0))

    @cached_property
    def _shifts(self) -> Pair:
        """The IN and the OUT mean, less the center."""
        inside, outside = (
            self._total(np.add, np.where(side, self.values - self._center, 0.0))
            / np.maximum(count, 1)
            for side, count in zip(self._sides, self.counts, strict=True)
        )
        return inside, outside

    @cached_property
    def _squares(self) -> Pair:
        """Sums of squared deviations from the IN and the OUT mean."""
        inside, outside = (
            np.maximum(
                self._total(np.add, np.where(side, self.values - self._center, 0.0) ** 2)
                - count * shift**2,
                0.0,
            )
            for side, count, shift in zip(self._sides, self.counts, self._shifts, strict=True)
        )
        return inside, outside

    def _total(self, add: np.ufunc, terms: FloatArray) -> FloatArray:
        if not self.in_turn:
            return np.asarray(add.reduce(terms, axis=0, keepdims=True))
        # Sums before and after each model. Subtracting its own term from the sum over all would
        # lose what stands beside one huge term, and logarithms cannot be subtracted at all.
        nothing = np.full((1, terms.shape[1]), add.identity)
        before = np.concatenate([nothing, add.accumulate(terms, axis=0)[:-1]])
        after = np.concatenate([add.accumulate(terms[::-1], axis=0)[-2::-1], nothing])
        return np.asarray(add(before, after))


def _average(values: FloatArray, among: BoolArray) -> FloatArray:
    total = np.where(among, values, 0.0).sum(axis=1, keepdims=True)
    return np.asarray(total / np.maximum(among.sum(axis=1, keepdims=True), 1))
