"""How strongly each training sample is memorized (Feldman 2020; WeMem's five-fold estimate)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from privet import query
from privet.errors import OptionError
from privet.fit import Pass, Setup, fit, seeded
from privet.progress import track
from privet.seeds import derive, generator
from privet.signals import FloatArray


def fold_scores(
    setup: Setup,
    seed: int,
    *,
    build: Callable[[], torch.nn.Module],
    epochs: int,
    folds: int = 5,
) -> FloatArray:
    """Estimate each sample's memorization from models trained on one fold each.

    The raw score is the confidence in the true class under the model that trained on the
    sample's own fold, minus the mean confidence under the other models; then scaled to [0, 1]
    over the training set by its minimum and maximum. Only the *order* of the scores carries over
    from one data set to another, absolute values do not.

    Parameters
    ----------
    setup
        The training set and how to train on it without a defense; its model is not used.
    build
        Makes a fresh network.
    epochs
        Epochs each fold's model trains, without early stopping.
    folds
        Number of disjoint folds, at least two; every fold holds at least one sample.

    Returns
    -------
    Shape (samples,), in [0, 1]: 0 least, 1 most memorized.
    """
    count = len(setup.labels)
    if not 2 <= folds <= count:
        raise OptionError(f"folds must lie in 2..{count} for {count} samples; got {folds}")
    fold_of = generator(seed, "folds").permutation(count) % folds
    confidences = np.empty((folds, count))
    for fold in track(range(folds), "memorization scores"):
        with seeded(derive(seed, "fold", fold)):
            model = build()
        inside = torch.from_numpy(np.flatnonzero(fold_of == fold))
        part = replace(setup, model=model, passes=partial(_only, inside, setup.weight_decay))
        fit(part, derive(seed, "fold", fold), most=epochs)
        confidences[fold] = _true_class_confidences(model, setup)
    own = confidences[fold_of, np.arange(count)]
    others = (confidences.sum(axis=0) - own) / (folds - 1)
    raw = own - others
    spread = raw.max() - raw.min()
    return np.zeros(count) if spread == 0 else np.asarray((raw - raw.min()) / spread)


def _only(samples: Tensor, weight_decay: float, epoch: int) -> list[Pass]:
    return [Pass(samples, weight_decay)]


def _true_class_confidences(model: torch.nn.Module, setup: Setup) -> FloatArray:
    posterior = query.logits(model, setup.inputs).double().softmax(1)
    return posterior.gather(1, setup.labels[:, None])[:, 0].numpy()
