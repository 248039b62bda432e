"""`privet prune` and `privet.prune`: prune a network on a data set, or one's own in memory."""

import logging
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from privet import query
from privet.defenses import choose
from privet.errors import OptionError, PrivetError
from privet.fit import Dense
from privet.jobs.cases import Source, open_case
from privet.jobs.inputs import as_dense, dense, require_trainable
from privet.jobs.known_scores import known_scores, spread
from privet.jobs.prune_network import Pruned, prune_network
from privet.jobs.search import Search
from privet.jobs.settings import PruneSettings, recommended
from privet.jobs.stages import Forgetful, Stages, open_run
from privet.jobs.tune import tuned, tuned_in_memory
from privet.models import describe, multiply_accumulates, nonzero, parameters, reinitialized
from privet.pruning.iterate import Round
from privet.seeds import derive
from privet.signals import FloatArray

_logger = logging.getLogger(__name__)

__all__ = ["PruneRun", "PruneSettings", "Source", "prune", "prune_source", "recommended"]


@dataclass(frozen=True, eq=False)
class PruneRun:
    """A model pruned in memory by `prune`, with what an audit needs to repeat it.

    Parameters
    ----------
    model
        The pruned network.
    rounds
        How each round went.
    train, dev
        The data it trained on, and the data that stopped rounds early.
    original
        The network as it was handed in.
    dense
        The network as it was before the first round.
    scores
        Memorization scores of the training set, where the defense needed them.
    guarantee
        What the defense proves, where it proves something.
    served
        The pruned network as a service would answer with it; ``model`` itself with most defenses.
    """

    model: nn.Module
    rounds: tuple[Round, ...]
    settings: PruneSettings
    train: Dense
    dev: Dense
    original: nn.Module
    dense: nn.Module
    scores: FloatArray | None
    guarantee: Mapping[str, Any] | None
    served: nn.Module


def prune(
    model: nn.Module,
    train: Any,
    dev: Any,
    *,
    defense: str = "none",
    options: Mapping[str, Any] | None = None,
    sparsity: float = 0.6,
    rounds: int | None = None,
    pruner: str = "magnitude",
    dense_epochs: int | None = None,
    settings: PruneSettings | None = None,
    out: Path | str | None = None,
    seed: int = 0,
) -> PruneRun:
    """Prune a copy of ``model`` in rounds, fine-tuning on ``train``; the model stays as it is.

    Parameters
    ----------
    model
        Any network with hidden layers that ends in class logits. An audit's shadow models,
        memorization scores, and defenses that train from fresh weights need every parameter's
        module to have ``reset_parameters``.
    train, dev
        ``(X, y)`` arrays or tensors, or map-style datasets of ``(x, y)``. ``dev`` stops rounds
        early and must not be the test set.
    defense, options
        A row of `privet.defenses.DEFENSES`, and changes to its defaults. "auto" searches for
        defense, options and settings on ``train`` and ``dev`` (`privet.jobs.search`); the run's
        ``settings`` say what was picked, and an audit prunes its shadow models under that.
    sparsity, pruner
        See `PruneSettings`.
    rounds
        Rounds of pruning; by default what the defense was made for, mostly 5.
    dense_epochs
        Most epochs to train the model before pruning. By default 0, the model comes trained,
        unless the defense shapes all of training and begins with fresh weights.
    settings
        All settings at once, in place of the six above and of what the defense was made for.
    out
        A folder for finished stages; the same call takes them up again after an interruption.
    """
    train, dev = as_dense(train, model), as_dense(dev, model)
    about: dict[str, Any] = {}
    if out is not None:
        out = Path(out)
        state = model.state_dict()
        network = sha256(repr((model, list(state))).encode()).hexdigest()
        about = {
            "data": _digest(*train, *dev),
            "network": network,
            "weights": _digest(*state.values()),
        }
    require_trainable(model)
    if settings is None:
        named = {"pruner": pruner, "rounds": rounds, "dense_epochs": dense_epochs}
        given = {name: value for name, value in named.items() if value is not None}
        if defense == "auto":
            if options:
                raise OptionError("the defense auto searches for its options; leave them out")
            search = Search(sparsity=sparsity, fixed=given)
            asked = {**about, **asdict(search), "seed": seed}
            settings = tuned_in_memory(
                model,
                train,
                dev,
                search=search,
                seed=derive(seed, "tune"),
                stages=_stages(out and out / "tune", "tune in memory", asked),
            )
        else:
            if not choose(defense, options or {}).whole:
                given = {"dense_epochs": 0, **given}
            settings = recommended(defense, options, sparsity=sparsity, **given)
    pruned = prune_network(
        lambda: deepcopy(model),
        train,
        dev,
        settings=settings,
        seed=derive(seed, "target"),
        stages=_stages(out, "prune in memory", {**about, **asdict(settings), "seed": seed}),
        fresh=lambda: reinitialized(model),
    )
    return PruneRun(
        model=pruned.model,
        rounds=pruned.rounds,
        settings=settings,
        train=train,
        dev=dev,
        original=model,
        dense=pruned.dense,
        scores=pruned.scores,
        guarantee=pruned.guarantee,
        served=pruned.served,
    )


def _stages(out: Path | None, kind: str, settings: Mapping[str, Any]) -> Stages:
    return Forgetful() if out is None else open_run(out, kind, settings)


def _digest(*tensors: Tensor) -> str:
    digest = sha256()
    for tensor in tensors:
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        raw = tensor.detach().contiguous().flatten().view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


def prune_source(
    source: Source, settings: PruneSettings | Search, *, out: Path, scores: Path | None = None
) -> dict[str, Any]:
    """Prune a network on a dataset into the run folder ``out``; return the run's result.

    A run that was interrupted resumes where it stopped; a finished one returns its result.

    Parameters
    ----------
    settings
        How to prune, or how to search for that first, in ``out/tune``.
    scores
        The folder of an audited run on the same data, whose memorization scores to use instead
        of training models for them.

    Raises
    ------
    OptionError
        When ``out`` holds something else.
    DataError
        When the dataset is missing or malformed.
    """
    if isinstance(settings, Search):
        settings = tuned(source, settings, out=out)
    case = open_case(source)
    known = None if scores is None else known_scores(scores, case)
    about = {
        **case.settings,
        "scores_of": None if scores is None else str(scores.resolve()),
        # The audit may be made again before an interrupted run goes on.
        "scores_digest": None if known is None else sha256(known.tobytes()).hexdigest(),
    }
    run = open_run(out, "prune", {**about, **asdict(settings)})
    if run.result is not None:
        return run.result
    afresh = choose(settings.defense, settings.defense_options).whole and settings.dense_epochs
    if source.weights is not None and afresh:
        _logger.info(
            "%s shapes all of training and begins afresh: the weights in %s are left aside",
            settings.defense,
            source.weights,
        )
    started = time.perf_counter()
    table, split = case.made.table, case.made.split
    train = dense(table, split.train)
    try:
        pruned = prune_network(
            case.build,
            train,
            dense(table, split.dev),
            settings=settings,
            seed=derive(source.seed, "target"),
            stages=run,
            fresh=case.architecture.build,
            scores=known,
        )
    except PrivetError:
        run.withdraw()
        raise
    run.keep("model", {"architecture": describe(case.architecture)}, pruned.model.state_dict())
    return run.finish(
        {
            "dataset": source.dataset,
            "model": describe(case.architecture)["architecture"],
            "defense": settings.defense,
            "defense_options": dict(settings.defense_options),
            "pruner": settings.pruner,
            "sparsity": settings.sparsity,
            "rounds": [asdict(each) for each in pruned.rounds],
            "train_accuracy": query.accuracy(pruned.served, *train),
            "test_accuracy": query.accuracy(pruned.served, *dense(table, split.test)),
            "dense_test_accuracy": query.accuracy(pruned.dense, *dense(table, split.test)),
            "guarantee": pruned.guarantee,
            "scores": None if pruned.scores is None else spread(pruned.scores, pruned.defense),
            **_size(pruned, train[0][:1]),
            "canaries": source.canaries,
            "seconds": time.perf_counter() - started,
            "seed": source.seed,
            "versions": run.record["versions"],
        }
    )


def _size(pruned: Pruned, example: Tensor) -> dict[str, int]:
    """Return parameters, those that are not zero, and MACs of one record, before and after."""
    return {
        "parameters": parameters(pruned.model),
        "nonzero": nonzero(pruned.model),
        "macs": multiply_accumulates(pruned.model, example),
        "dense_parameters": parameters(pruned.dense),
        "dense_macs": multiply_accumulates(pruned.dense, example),
    }
