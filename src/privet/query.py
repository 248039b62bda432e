"""From models to what they reveal: the only place where trained models are queried."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from privet.signals import IntArray, Signals
from privet.sparse import Inputs, take

BLOCK = 4096


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
    """Return the model's outputs on ``inputs``, shape (samples, outputs), in float32."""
    count = inputs.shape[0]
    with evaluating(model):
        blocks = [
            model(take(inputs, torch.arange(start, min(start + BLOCK, count))))
            for start in range(0, count, BLOCK)
        ]
    return torch.cat(blocks).float()


def accuracy(model: nn.Module, inputs: Inputs, labels: Tensor) -> float:
    """Return the share of samples classified as labelled; a single output is a binary logit."""
    scores = logits(model, inputs)
    predicted = (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(1)
    return float((predicted == labels.long()).float().mean())


def signals(models: Sequence[nn.Module], inputs: Inputs, labels: IntArray) -> Signals:
    """Return the `Signals` of ``models`` on the same samples."""
    return Signals(np.stack([logits(model, inputs).numpy() for model in models]), labels)
