"""The defense model on a person's device: a fully connected ReLU network in plain NumPy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privet.errors import DataError

Array = NDArray[np.floating]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

ROWS = 16  # of a weight, looked at together: copies of it all would double the memory


@dataclass(frozen=True, eq=False)
class Network:
    """A fully connected ReLU network with at least one hidden layer, for inference only.

    The gradient is analytic and split at the first layer's pre-activations: whoever changes
    few inputs updates those and spares itself the widest matrix product.

    Parameters
    ----------
    weights
        One array a layer, shape (outputs, inputs), float32, finite.
    biases
        One array a layer, shape (outputs,), float32, finite.

    Raises
    ------
    DataError
        When the layers do not fit together or hold NaN or infinite numbers.
    """

    weights: tuple[Float32, ...]
    biases: tuple[Float32, ...]

    def __post_init__(self) -> None:
        if len(self.weights) < 2 or len(self.weights) != len(self.biases):
            raise DataError(
                f"a network needs at least two layers, each with weights and a bias; "
                f"got {len(self.weights)} weights and {len(self.biases)} biases"
            )
        inputs = self.weights[0].shape[-1]
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.dtype != np.float32 or bias.dtype != np.float32:
                raise DataError(f"layer {layer} must be float32; got {weight.dtype}, {bias.dtype}")
            if weight.ndim != 2 or weight.size == 0 or weight.shape[1] != inputs:
                raise DataError(
                    f"layer {layer} must have shape (outputs, {inputs}); got {weight.shape}"
                )
            if bias.shape != weight.shape[:1]:
                raise DataError(
                    f"layer {layer} needs a bias of shape {weight.shape[:1]}; got {bias.shape}"
                )
            if not (_all_finite(weight) and np.isfinite(bias).all()):
                raise DataError(f"layer {layer} holds NaN or infinite numbers")
            inputs = weight.shape[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of every layer from the inputs to the outputs, e.g. ``(10000, 200, 25)``."""
        return (self.weights[0].shape[1], *(weight.shape[0] for weight in self.weights))

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(weight.size + weight.shape[0] for weight in self.weights)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for one record, biases and activations not counted."""
        return sum(weight.size for weight in self.weights)

    def first(self, inputs: Array) -> Float32:
        """Return the first layer's pre-activations; (n, inputs) to (n, first width)."""
        return inputs.astype(np.float32, copy=False) @ self.weights[0].T + self.biases[0]

    def forward(self, first: Float32) -> list[Float32]:
        """Return every layer's pre-activations, ``first`` included; the last are the logits."""
        layers = [first]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            layers.append(np.maximum(layers[-1], 0) @ weight.T + bias)
        return layers

    def backward(
        self, layers: list[Float32], output: Ints, *, against: Ints | None = None
    ) -> Float32:
        """Return the gradient of one logit per row with respect to the first pre-activations.

        Parameters
        ----------
        layers
            The pre-activations from `forward`; the logits are not looked at.
        output
            Shape (n,): which logit to differentiate. A ReLU at exactly zero passes nothing.
        against
            Shape (n,): another logit, to be subtracted from the first.

        Returns
        -------
        Shape (n, first width); times ``weights[0]`` it is the gradient at the inputs.
        """
        gradient = self.weights[-1][output]
        if against is not None:
            gradient -= self.weights[-1][against]
        gradient *= layers[-2] > 0
        for layer in range(len(self.weights) - 2, 0, -1):
            gradient = gradient @ self.weights[layer]
            gradient *= layers[layer - 1] > 0
        return gradient

    def logits(self, inputs: Array) -> Float32:
        """Return the outputs before softmax or sigmoid; shape (n, outputs)."""
        return self.forward(self.first(inputs))[-1]


def _all_finite(weight: Float32) -> bool:
    """Tell whether all weights are finite, some rows at a time: a mask would be a quarter more."""
    parts = (weight[at : at + ROWS] for at in range(0, len(weight), ROWS))
    return all(np.isfinite(part).all() for part in parts)


def softmax(logits: Array) -> Float64:
    """Return the row-wise softmax in float64; no overflow, however large the logits."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: Array) -> Float64:
    """Return the logistic function in float64 without overflow."""
    shrunk = np.exp(-np.abs(logits.astype(np.float64)))
    return np.asarray(np.where(logits >= 0, 1.0, shrunk) / (1.0 + shrunk))
