"""How strongly each training sample is memorized (Feldman 2020), estimated from a few models.

    who trains on what (`subsets`) -> a network for each (`confidences`) -> `scores`

Both estimates have one formula: the mean confidence in the true class of the models that trained
on the sample, minus the mean of those that did not. They differ in who trains on what.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from privet import query
from privet.errors import OptionError
from privet.fit import Pass, Setup, fit, seeded
from privet.progress import track
from privet.seeds import derive, generator
from privet.signals import BoolArray, FloatArray

Estimate = Literal["folds", "subsampled"]
"""Who trains on what: *folds*, WeMem's cheap estimate, gives each model a disjoint fold, so one
model has met the sample; *subsampled*, Feldman & Zhang's (NeurIPS 2020, section 2), gives each
model a random half."""


Once = Callable[[str, Callable[[], Tensor]], Tensor]
"""Returns what the function computes, or what it computed before under that name."""


def anew(name: str, compute: Callable[[], Tensor]) -> Tensor:
    """Compute it: nothing is remembered."""
    return compute()


def memorization_scores(
    setup: Setup,
    seed: int,
    *,
    build: Callable[[], torch.nn.Module],
    epochs: int,
    estimate: Estimate = "folds",
    models: int = 5,
    once: Once = anew,
) -> FloatArray:
    """Estimate each sample's memorization by networks trained on parts of the training set.

    Parameters
    ----------
    setup
        The training set and how to train on it without a defense; its model is not used.
    build
        Makes a fresh network.
    epochs
        Epochs each network trains, without early stopping.
    estimate, models
        See `Estimate`, and how many networks it takes.
    once
        Remembers each network's confidences, so an interrupted estimate goes on.

    Returns
    -------
    Shape (samples,), in [0, 1]: 0 least, 1 most memorized.
    """
    inside = subsets(len(setup.labels), seed, estimate=estimate, models=models)
    found = [
        once(
            f"score-model-{number}",
            lambda number=number: confidences(  # type: ignore[misc]
                setup, inside[number], derive(seed, "model", number), build=build, epochs=epochs
            ),
        )
        for number in track(range(models), "memorization scores")
    ]
    return scores(torch.stack(found).numpy(), inside)


def subsets(samples: int, seed: int, *, estimate: Estimate, models: int) -> BoolArray:
    """Return which sample each model trains on; shape (models, samples).

    Every sample is in one fold, or in one half of every two models 2i and 2i + 1, so that every
    sample has models on both sides.

    Raises
    ------
    OptionError
        With fewer than two models, or an odd number of halves, or more folds than samples.
    """
    if not 2 <= models <= samples:
        raise OptionError(
            f"score models must lie in 2..{samples} for {samples} samples; got {models}"
        )
    if estimate == "folds":
        fold = generator(seed, "folds").permutation(samples) % models
        return np.asarray(fold[None] == np.arange(models)[:, None])
    if models % 2:
        raise OptionError(f"subsampled scores take an even number of models; got {models}")
    halves = [generator(seed, "halves", pair).permutation(samples) for pair in range(models // 2)]
    return np.stack([side for half in halves for side in (half % 2 == 0, half % 2 == 1)])


def confidences(
    setup: Setup,
    inside: BoolArray,
    seed: int,
    *,
    build: Callable[[], torch.nn.Module],
    epochs: int,
) -> Tensor:
    """Train a fresh network on some samples; return its confidence in every sample's true class.

    Parameters
    ----------
    setup
        The training set and how to train on it without a defense; its model is not used.
    inside
        Shape (samples,), bool: the samples to train on.
    build
        Makes the network.
    epochs
        Epochs it trains, without early stopping.

    Returns
    -------
    Shape (samples,), in [0, 1].
    """
    with seeded(derive(seed, "initialize")):
        model = build()
    part = torch.from_numpy(np.flatnonzero(inside))
    passes = partial(_only, part, setup.weight_decay)
    fit(replace(setup, model=model, passes=passes), derive(seed, "train"), most=epochs)
    posterior = query.logits(model, setup.inputs).double().softmax(1)
    return posterior.gather(1, setup.labels[:, None])[:, 0]


def scores(confidences: FloatArray, inside: BoolArray) -> FloatArray:
    """Return memorization scores, scaled to [0, 1] by their minimum and maximum.

    Only the *order* of the scores carries over from one data set to another, absolute values do
    not.

    Parameters
    ----------
    confidences, inside
        Shape (models, samples): confidence in the true class; whether the model trained on it.

    Returns
    -------
    Shape (samples,): 0 least, 1 most memorized; all 0 when no sample differs from another.
    """
    own = (confidences * inside).sum(axis=0) / inside.sum(axis=0)
    others = (confidences * ~inside).sum(axis=0) / (~inside).sum(axis=0)
    return rescaled(own - others)


def rescaled(raw: FloatArray) -> FloatArray:
    """Return values stretched from minimum and maximum to [0, 1]; all 0 when they are equal."""
    spread = raw.max() - raw.min()
    return np.zeros(len(raw)) if spread == 0 else np.asarray((raw - raw.min()) / spread)


def _only(samples: Tensor, weight_decay: float, epoch: int) -> list[Pass]:
    return [Pass(samples, weight_decay)]
