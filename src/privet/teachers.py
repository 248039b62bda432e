"""Teachers for cross-fitted distillation: what models that never met a sample make of it.

SELENA (Tang et al., Mitigating Membership Inference Attacks by Self-Distillation Through a Novel
Ensemble Architecture, USENIX Security 2022) answers for each sample with networks that did not
train on it. Any classifier will do in their place, and a good cheap one does best on small tables.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.decomposition import TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from privet import query
from privet.errors import OptionError
from privet.fit import Pass, Setup, fit, seeded
from privet.memorization import Once, anew
from privet.progress import track
from privet.seeds import derive, generator
from privet.signals import FloatArray, IntArray
from privet.sparse import take

Teacher = Literal["auto", "centroids", "lda", "network"]
"""*centroids*: the nearest class mean among rows of unit length in their leading directions, for
tables of counts or of yes and no. *lda*: linear discriminants on a shrunk covariance, for other
tables. *network*: fresh networks of the student's own make. *auto*: of the first two the one under
which the labels are likelier for tables, network for everything else."""

Table = Any
"""Rows of numbers: an array, or SciPy's CSR."""
TableTeacher = Callable[[Table, IntArray, Table], FloatArray]
"""From rows and labels to learn from, and rows asked, to scores of the classes that occur."""
DIRECTIONS = 100  # leading ones, of the centroids
SHRINKAGE = 0.9  # of the covariance
_LEAST = 1e-6  # posterior of a class that a fold's samples lack


def out_of_fold(
    setup: Setup,
    seed: int,
    *,
    teacher: Teacher,
    folds: int,
    build: Callable[[], nn.Module],
    epochs: int,
    once: Once = anew,
) -> Tensor:
    """Return each sample's posterior under a teacher that did not train on it.

    All posteriors are sharpened or flattened by one common exponent, the one under which the
    labels are likeliest: neither centroids nor discriminants are calibrated.

    Parameters
    ----------
    setup
        The training set, and how a network trains on it.
    teacher, folds
        Who teaches, and how many disjoint folds, at least two: each teacher learns from all but
        one.
    build, epochs
        Makes a fresh network, and how many epochs it trains; for the network teacher.
    once
        Remembers each fold's answers, so interrupted teaching goes on.

    Returns
    -------
    Shape (samples, classes), float32, rows sum to 1.
    """
    samples = len(setup.labels)
    if not 2 <= folds <= samples:
        raise OptionError(f"folds must lie in 2..{samples} for {samples} samples; got {folds}")
    fold_of = torch.from_numpy(generator(seed, "teacher folds").permutation(samples) % folds)

    def taught(who: str) -> Tensor:
        logits = torch.empty(samples, _classes(setup), dtype=torch.float64)
        for fold in track(range(folds), "teachers"):
            sides = tuple(torch.nonzero(part)[:, 0] for part in (fold_of != fold, fold_of == fold))
            if who in ON_TABLES:
                logits[sides[1]] = _on_table(ON_TABLES[who], setup, *sides)
                continue
            networks = partial(_network, setup, *sides, seed=derive(seed, "fold", fold))
            answers = once(f"teacher-{fold}", partial(networks, build=build, epochs=epochs))
            logits[sides[1]] = answers.double()
        return _calibrated(logits, setup.labels)

    if teacher != "auto":
        return taught(teacher)
    candidates = ON_TABLES if setup.inputs.ndim == 2 else ("network",)
    return min(map(taught, candidates), key=lambda posterior: _surprise(posterior, setup.labels))


def _classes(setup: Setup) -> int:
    return int(query.logits(setup.model, setup.inputs[:1]).shape[1])


def _on_table(teach: TableTeacher, setup: Setup, learn: Tensor, judge: Tensor) -> Tensor:
    """Return a table teacher's scores of the samples ``judge``, which learned from ``learn``."""
    inputs = setup.inputs if not isinstance(setup.inputs, Tensor) else setup.inputs.numpy()
    if inputs.ndim != 2:
        raise OptionError(
            f"the teachers {', '.join(ON_TABLES)} take tables; these inputs have shape "
            f"{inputs.shape}"
        )
    labels = setup.labels[learn].numpy()
    present = np.unique(labels)
    answers = np.full((len(judge), _classes(setup)), np.log(_LEAST))
    if len(present) == 1:
        answers[:, present] = 0.0
    else:
        scores = teach(inputs[learn.numpy()], labels, inputs[judge.numpy()])
        answers[:, present] = log_softmax(scores, axis=1)
    return torch.from_numpy(answers)


def centroids(inputs: Table, labels: IntArray, asked: Table) -> FloatArray:
    """Return how near each row asked lies to each class's mean; higher is nearer.

    The mean score of a class, ``z.m - |m|^2 / 2``, is that of a Gaussian of even spread around its
    mean m. Rows are scaled to unit length, so that a row of few entries counts no less than one of
    many, and projected on the leading directions of the rows learned from, which forgets most of
    what is peculiar to single rows.
    """
    steps = [Normalizer()]
    if inputs.shape[1] > 1:  # a single column is a direction already, and refused
        steps.append(TruncatedSVD(min(DIRECTIONS, *inputs.shape), random_state=0))
    with np.errstate(invalid="ignore"):  # shares of a variance of zero, which nobody asks for
        projection = make_pipeline(*steps).fit(inputs)
    learned, judged = projection.transform(inputs), projection.transform(asked)
    means = np.stack([learned[labels == each].mean(axis=0) for each in np.unique(labels)])
    return np.asarray(judged @ means.T - (means**2).sum(axis=1) / 2)


def discriminants(inputs: Table, labels: IntArray, asked: Table) -> FloatArray:
    """Return each row's log-posterior of each class under linear discriminants."""
    present = np.unique(labels)
    lda = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=SHRINKAGE, priors=np.full(len(present), 1 / len(present))
    )
    with warnings.catch_warnings():
        # A class with one sample has no spread, which is all that the warning says.
        warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
        lda.fit(inputs, labels)
    return np.asarray(lda.predict_log_proba(asked))


ON_TABLES: Mapping[str, TableTeacher] = {"centroids": centroids, "lda": discriminants}
"""Teachers of tables by name."""


def _network(
    setup: Setup,
    learn: Tensor,
    judge: Tensor,
    *,
    seed: int,
    build: Callable[[], nn.Module],
    epochs: int,
) -> Tensor:
    """Train a fresh network on the samples ``learn``; return its logits of those to judge."""
    with seeded(derive(seed, "initialize")):
        model = build()
    part = replace(setup, model=model, passes=lambda _: [Pass(learn, setup.weight_decay)])
    fit(part, derive(seed, "train"), most=epochs)
    return query.logits(model, take(setup.inputs, judge))


def _calibrated(logits: Tensor, labels: Tensor) -> Tensor:
    """Return posteriors of the logits times the one factor under which labels are likeliest."""

    def posterior(log_factor: float) -> Tensor:
        return (logits * float(np.exp(log_factor))).softmax(1)

    best = minimize_scalar(
        lambda factor: _surprise(posterior(factor), labels), bounds=(-5, 8), method="bounded"
    )
    return posterior(best.x).float()


def _surprise(posterior: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood of the labels."""
    return float(nll_loss(posterior.clamp(min=1e-30).log(), labels))
