"""From models to what they reveal: the only place where trained models are queried."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from privet.errors import DataError, EvidenceError
from privet.seeds import derive
from privet.signals import FloatArray, IntArray, Signals
from privet.sparse import Inputs, take

BLOCK = 4096
LEAST_LOG_CONFIDENCE = float(np.log(1e-12))
SENSITIVITY_DRAWS, SENSITIVITY_SCALE = 10, 1e-3
ROBUSTNESS_SCALES, ROBUSTNESS_DRAWS = (0.5, 1.0, 2.0, 4.0), 5

Predict = Callable[[FloatArray], FloatArray]
"""A model of any make: from inputs, (n, ...), to logits or log-confidences, (n, classes)."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold ``model`` in evaluation mode without gradients, then restore the mode of every part.

    Scoring a model in training mode (dropout on, batch statistics) makes it look private when it
    is not.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def logits(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the model's outputs on ``inputs``, shape (samples, outputs), in float32.

    Raises
    ------
    DataError
        When the model returns anything but a tensor, such as a dictionary.
    """
    count = inputs.shape[0]
    with evaluating(model):
        blocks = [
            model(take(inputs, torch.arange(start, min(start + BLOCK, count))))
            for start in range(0, count, BLOCK)
        ]
    other = next((block for block in blocks if not isinstance(block, Tensor)), None)
    if other is not None:
        raise DataError(
            f"a network must return its logits as a tensor; got {type(other).__name__}: wrap it in "
            f"a module that returns the logits alone"
        )
    return torch.cat(blocks).float()


def accuracy(model: nn.Module, inputs: Inputs, labels: Tensor) -> float:
    """Return the share of samples classified as labelled; a single output is a binary logit."""
    scores = logits(model, inputs)
    predicted = (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(1)
    return float((predicted == labels.long()).float().mean())


def as_module(predict: Predict) -> nn.Module:
    """Return a model of any make (scikit-learn, JAX, a service) as a module that can be queried.

    For scikit-learn that is ``as_module(classifier.predict_log_proba)``. A confidence of exactly
    zero, whose logarithm is infinite, counts as 1e-12.
    """
    return _Foreign(predict)


def signals(
    models: Sequence[nn.Module],
    inputs: Tensor,
    labels: IntArray,
    *,
    noisy: bool = False,
    seed: int = 0,
) -> Signals:
    """Return the `Signals` of ``models`` on the same samples.

    Parameters
    ----------
    noisy
        Whether to ask about noisy inputs too: `sensitivity` and `robustness`. Every model meets
        the same noise, fixed by ``seed``.
    """
    answers = [logits(model, inputs).numpy() for model in models]
    if not noisy:
        return Signals(np.stack(answers), labels)
    return Signals(
        np.stack(answers),
        labels,
        sensitivity=np.stack([sensitivity(model, inputs, seed=seed) for model in models]),
        robustness=np.stack([robustness(model, inputs, labels, seed=seed) for model in models]),
    )


def sensitivity(
    model: nn.Module,
    inputs: Tensor,
    *,
    seed: int,
    draws: int = SENSITIVITY_DRAWS,
    scale: float = SENSITIVITY_SCALE,
) -> FloatArray:
    """Return how much each class's confidence moves under tiny noise; shape (samples, classes).

    The mean over ``draws`` of ``|p(x + scale * e) - p(x)| / scale`` with standard Gaussian e
    (Yuan & Zhang, USENIX Security 2022, section 4.2).

    Raises
    ------
    EvidenceError
        When the model takes the inputs, but not with noise on them: token ids, say.
    """
    before = logits(model, inputs).double().softmax(1)
    moved = torch.zeros_like(before)
    with _noise_refused():
        for draw in range(draws):
            noise = _noise(inputs, derive(seed, "sensitivity", draw))
            moved += (logits(model, inputs + scale * noise).double().softmax(1) - before).abs()
    return np.asarray((moved / (draws * scale)).float().numpy())


def robustness(
    model: nn.Module,
    inputs: Tensor,
    labels: IntArray,
    *,
    seed: int,
    scales: Sequence[float] = ROBUSTNESS_SCALES,
    draws: int = ROBUSTNESS_DRAWS,
) -> FloatArray:
    """Return how often a noisy input is classified as labelled; shape (samples,), in [0, 1].

    Gaussian noise of ``scales`` times the inputs' standard deviation (over all entries), ``draws``
    times each: a stand-in for the distance to the decision boundary (Choquette-Choo et al., ICML
    2021, section 3.3) that costs a fixed number of queries. The clean input counts as one more.

    Raises
    ------
    EvidenceError
        As for `sensitivity`.
    """
    truth = torch.from_numpy(np.asarray(labels)).long()
    right = (logits(model, inputs).argmax(1) == truth).double()
    with _noise_refused():
        spread = float(inputs.std())
        for step, scale in enumerate(scales):
            for draw in range(draws):
                noise = _noise(inputs, derive(seed, "robustness", step, draw))
                right += logits(model, inputs + scale * spread * noise).argmax(1) == truth
    return np.asarray((right / (1 + len(scales) * draws)).float().numpy())


@contextmanager
def _noise_refused() -> Iterator[None]:
    """Turn whatever a model raises on noisy inputs into an `EvidenceError`."""
    try:
        yield
    except Exception as error:  # a network of the user's own may raise anything
        reason = " ".join(str(error).split())[:200]
        raise EvidenceError(
            f"the model does not take noisy inputs ({type(error).__name__}: {reason}); leave out "
            f"the attacks that need them, label-only and samia"
        ) from None


def _noise(inputs: Tensor, seed: int) -> Tensor:
    return torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed))


class _Foreign(nn.Module):
    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self.predict = predict

    def forward(self, inputs: Tensor) -> Tensor:
        answers = np.asarray(self.predict(inputs.numpy()), dtype=np.float64)
        if answers.ndim != 2 or len(answers) != len(inputs):
            raise DataError(
                f"a model must answer with a row of logits or log-confidences for each sample; "
                f"got shape {answers.shape} for {len(inputs)} samples"
            )
        # The logarithm of a confidence of exactly zero.
        return torch.from_numpy(np.where(np.isneginf(answers), LEAST_LOG_CONFIDENCE, answers))
