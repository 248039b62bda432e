"""`privet prune` and `privet.prune`: prune a network on a data set, or one's own in memory."""

import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from privet import query
from privet.data.registry import load
from privet.data.splits import plant_canaries, pruning_split
from privet.data.table import Table
from privet.errors import DataError
from privet.fit import Dense
from privet.jobs.inputs import as_dense, data_settings, dense
from privet.jobs.prune_network import PruneSettings, prune_network
from privet.jobs.stages import open_run
from privet.models import FullyConnected, parameters, reinitialized
from privet.pruning.iterate import Round
from privet.seeds import derive
from privet.signals import FloatArray

__all__ = ["PruneRun", "PruneSettings", "prune", "prune_dataset"]


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
    """

    model: nn.Module
    rounds: tuple[Round, ...]
    settings: PruneSettings
    train: Dense
    dev: Dense
    original: nn.Module
    dense: nn.Module
    scores: FloatArray | None

    def rebuild(self) -> nn.Module:
        """Return a network of the original shape with fresh weights, for a shadow model."""
        return reinitialized(self.original)

    @property
    def shadow_settings(self) -> PruneSettings:
        """The same settings; where the model came trained, shadow models train by default."""
        epochs = self.settings.dense_epochs or PruneSettings.dense_epochs
        return replace(self.settings, dense_epochs=epochs)


def prune(
    model: nn.Module,
    train: Any,
    dev: Any,
    *,
    defense: str = "none",
    sparsity: float = 0.6,
    rounds: int = 5,
    pruner: str = "magnitude",
    dense_epochs: int = 0,
    settings: PruneSettings | None = None,
    seed: int = 0,
) -> PruneRun:
    """Prune a copy of ``model`` in rounds, fine-tuning on ``train``; the model stays as it is.

    Parameters
    ----------
    model
        Any network with hidden linear layers that ends in class logits. An audit's shadow models,
        and memorization scores, need every parameter's module to have ``reset_parameters``.
    train, dev
        ``(X, y)`` arrays or tensors, or map-style datasets of ``(x, y)``. ``dev`` stops rounds
        early and must not be the test set.
    defense, sparsity, rounds, pruner
        See `PruneSettings`.
    dense_epochs
        Most epochs to train the model before pruning; 0 if it comes trained.
    settings
        The remaining settings; the five above replace its own.
    """
    chosen = replace(
        settings or PruneSettings(),
        defense=defense,
        sparsity=sparsity,
        rounds=rounds,
        pruner=pruner,
        dense_epochs=dense_epochs,
    )
    train, dev = as_dense(train, model), as_dense(dev, model)
    pruned = prune_network(
        lambda: deepcopy(model),
        train,
        dev,
        settings=chosen,
        seed=derive(seed, "target"),
        fresh=lambda: reinitialized(model),
    )
    return PruneRun(
        model=pruned.model,
        rounds=pruned.rounds,
        settings=chosen,
        train=train,
        dev=dev,
        original=model,
        dense=pruned.dense,
        scores=pruned.scores,
    )


def prune_dataset(
    dataset: str, settings: PruneSettings, *, seed: int, out: Path, canaries: int = 0
) -> dict[str, Any]:
    """Prune a network on a dataset into the run folder ``out``; return the run's result.

    A run that was interrupted resumes where it stopped; a finished one returns its result.

    Parameters
    ----------
    dataset
        A registered name, or the path of a table or image folder (`privet.data.registry`).
    canaries
        Mislabeled samples for the audit (`privet.data.splits.plant_canaries`): 0, or at least 2.

    Raises
    ------
    OptionError
        When ``out`` holds something else.
    DataError
        When the dataset is missing or malformed.
    """
    original = load(dataset)
    about = {**data_settings(dataset, original), "canaries": canaries, "seed": seed}
    made = plant_canaries(original, pruning_split(original, seed), count=canaries, seed=seed)
    table, split = made.table, made.split
    architecture = default_architecture(table)
    run = open_run(out, "prune", {**about, **asdict(settings)})
    if run.result is not None:
        return run.result
    started = time.perf_counter()
    train = dense(table, split.train)
    pruned = prune_network(
        architecture.build,
        train,
        dense(table, split.dev),
        settings=settings,
        seed=derive(seed, "target"),
        stages=run,
    )
    run.keep("model", {"architecture": asdict(architecture)}, pruned.model.state_dict())
    return run.finish(
        {
            "dataset": dataset,
            "model": "fc",
            "defense": settings.defense,
            "pruner": settings.pruner,
            "sparsity": settings.sparsity,
            "rounds": [asdict(each) for each in pruned.rounds],
            "train_accuracy": query.accuracy(pruned.model, *train),
            "test_accuracy": query.accuracy(pruned.model, *dense(table, split.test)),
            "parameters": parameters(pruned.model),
            "nonzero": int(sum(p.count_nonzero() for p in pruned.model.parameters())),
            "canaries": canaries,
            "seconds": time.perf_counter() - started,
            "seed": seed,
            "versions": run.record["versions"],
        }
    )


def default_architecture(table: Table) -> FullyConnected:
    """Return WeMem's network for tables: 256 and 128 hidden units, dropout 0.1."""
    if table.inputs.ndim != 2:
        raise DataError(
            f"{table.name} holds images; the fully connected model takes tables of numbers"
        )
    return FullyConnected(
        table.inputs.shape[1],
        (256, 128),
        table.classes,
        dropout=0.1,
    )
