"""Private pruning: train, score memorization, prune in rounds under a defense.

`prune_network` is the one way a network is pruned, for targets and for an auditor's shadow
models alike: an adaptive attacker repeats exactly what the defender did.
"""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from privet import query
from privet.data.registry import load
from privet.data.splits import pruning_split
from privet.data.table import Indices, Table
from privet.defenses import DEFENSES, Defense
from privet.errors import DataError, OptionError
from privet.fit import Dense, Setup, adam, fit, seeded
from privet.jobs.stages import Forgetful, Stages, open_run
from privet.memorization import fold_scores
from privet.models import FullyConnected, load_weights, parameters
from privet.progress import track
from privet.pruning import PRUNERS
from privet.pruning.iterate import Plan, Round, prune_rounds
from privet.pruning.schedule import geometric
from privet.seeds import derive
from privet.signals import FloatArray


@dataclass(frozen=True)
class PruneSettings:
    """How a network is trained and pruned; the defaults are WeMem's for Location.

    Parameters
    ----------
    defense, defense_options
        A row of `privet.defenses.DEFENSES`, and changes to its published settings.
    pruner
        A row of `privet.pruning.PRUNERS`.
    sparsity
        Fraction removed in the end, in [0, 1); see `privet.pruning.schedule`.
    rounds, epochs, patience
        Rounds of pruning, most epochs of each, and epochs without progress that end one early.
    dense_epochs
        Most epochs of training before pruning starts; 0 takes the network as it is.
    batch_size, learning_rate, weight_decay
        Of Adam, in training and fine-tuning.
    folds
        Folds of the memorization scores.
    """

    defense: str = "none"
    defense_options: Mapping[str, Any] = field(default_factory=dict)
    pruner: str = "magnitude"
    sparsity: float = 0.6
    rounds: int = 5
    epochs: int = 21
    patience: int = 5
    dense_epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    folds: int = 5

    def __post_init__(self) -> None:
        Plan(tuple(geometric(self.sparsity, self.rounds)), self.epochs, self.patience)
        choose_defense(self.defense, self.defense_options)
        if self.pruner not in PRUNERS:
            raise OptionError(f"unknown pruner {self.pruner!r}; choose from {', '.join(PRUNERS)}")
        if self.batch_size < 1 or not self.learning_rate > 0 or self.dense_epochs < 0:
            raise OptionError(
                f"batch_size and learning_rate must be positive, dense_epochs at least 0; got "
                f"{self.batch_size}, {self.learning_rate} and {self.dense_epochs}"
            )

    @property
    def plan(self) -> Plan:
        """The rounds."""
        return Plan(tuple(geometric(self.sparsity, self.rounds)), self.epochs, self.patience)


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned network, its finished rounds, and the memorization scores where it needed them."""

    model: nn.Module
    rounds: tuple[Round, ...]
    scores: FloatArray | None


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
    """

    model: nn.Module
    rounds: tuple[Round, ...]
    settings: PruneSettings
    train: Dense
    dev: Dense
    original: nn.Module

    def rebuild(self) -> nn.Module:
        """Return a network of the original shape with fresh weights, for a shadow model."""
        network = deepcopy(self.original)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
        return network

    @property
    def shadow_settings(self) -> PruneSettings:
        """The same settings; where the model came trained, shadow models train by default."""
        epochs = self.settings.dense_epochs or PruneSettings.dense_epochs
        return replace(self.settings, dense_epochs=epochs)


def choose_defense(name: str, options: Mapping[str, Any]) -> Defense:
    """Return a defense by name, with some of its published settings replaced.

    Raises
    ------
    OptionError
        On an unknown name, an option that the defense does not have, or a value of another type.
    """
    if name not in DEFENSES:
        raise OptionError(f"unknown defense {name!r}; choose from {', '.join(DEFENSES)}")
    defense = DEFENSES[name]
    known = asdict(defense)  # type: ignore[call-overload]
    for key, value in options.items():
        if key not in known:
            raise OptionError(
                f"defense {name} has no option {key!r}; it has {', '.join(known) or 'none'}"
            )
        if not isinstance(value, type(known[key])) and not (
            isinstance(known[key], float) and isinstance(value, int)
        ):
            raise OptionError(
                f"option {key} of defense {name} is a {type(known[key]).__name__}; got {value!r}"
            )
    return replace(defense, **options)  # type: ignore[type-var]


def prune_network(
    build: Callable[[], nn.Module],
    train: Dense,
    dev: Dense,
    *,
    settings: PruneSettings,
    seed: int,
    stages: Stages | None = None,
) -> Pruned:
    """Train a network from ``build``, then prune it in rounds under the settings' defense.

    Parameters
    ----------
    build
        Makes the dense network; called inside a seeded block.
    train, dev
        Inputs and labels to train on, and to stop early by.
    stages
        Where finished stages are kept and taken up again; in memory only by default.
    """
    stages = stages or Forgetful()
    defense = choose_defense(settings.defense, settings.defense_options)
    setup = _dense(build, train, dev=dev, settings=settings, seed=seed, stages=stages)
    pruner = PRUNERS[settings.pruner]
    sizes = pruner.sizes(setup.model)
    if defense.needs_scores:
        scores = _scores(setup, build, settings=settings, seed=seed, stages=stages)
        setup = replace(setup, scores=scores)
    done: list[Round] = []
    while (finished := stages.recall(f"round-{len(done)}")) is not None:
        load_weights(setup.model, finished[1])
        done.append(Round(**finished[0]))
    upcoming = prune_rounds(
        setup,
        settings.plan,
        pruner=pruner,
        sizes=sizes,
        defend=defense.start,
        dev=dev,
        seed=seed,
        done=tuple(done),
    )
    for each in track(upcoming, "pruning rounds", total=settings.rounds - len(done)):
        stages.keep(f"round-{each.round}", asdict(each), setup.model.state_dict())
        done.append(each)
    return Pruned(setup.model, tuple(done), setup.scores)


def _dense(
    build: Callable[[], nn.Module],
    train: Dense,
    *,
    dev: Dense,
    settings: PruneSettings,
    seed: int,
    stages: Stages,
) -> Setup:
    """Return the setup around the trained dense network."""
    with seeded(derive(seed, "initialize")):
        model = build()
    setup = Setup(
        model=model,
        inputs=train[0],
        labels=train[1],
        optimizer=adam(settings.learning_rate),
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
    )
    if (finished := stages.recall("dense")) is not None:
        load_weights(model, finished[1])
        return setup
    if settings.dense_epochs:
        fit(
            setup,
            derive(seed, "dense"),
            most=settings.dense_epochs,
            dev=dev,
            patience=settings.patience,
        )
    stages.keep("dense", {"dev_accuracy": query.accuracy(model, *dev)}, model.state_dict())
    return setup


def _scores(
    setup: Setup,
    build: Callable[[], nn.Module],
    *,
    settings: PruneSettings,
    seed: int,
    stages: Stages,
) -> FloatArray:
    """Return the memorization scores of the training set, computed once a run."""
    if (finished := stages.recall("scores")) is not None:
        return np.asarray(finished[1]["scores"])
    scores = fold_scores(
        setup,
        derive(seed, "scores"),
        build=build,
        epochs=settings.dense_epochs,
        folds=settings.folds,
    )
    stages.keep("scores", {"folds": settings.folds}, {"scores": torch.from_numpy(scores)})
    return scores


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
        Any network with hidden linear layers that ends in class logits.
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
        lambda: deepcopy(model), train, dev, settings=chosen, seed=derive(seed, "target")
    )
    return PruneRun(pruned.model, pruned.rounds, chosen, train, dev, original=model)


def prune_dataset(dataset: str, settings: PruneSettings, *, seed: int, out: Path) -> dict[str, Any]:
    """Prune a network on a dataset into the run folder ``out``; return the run's result.

    A run that was interrupted resumes where it stopped; a finished one returns its result.

    Parameters
    ----------
    dataset
        A registered name, or the path of a table or image folder (`privet.data.registry`).

    Raises
    ------
    OptionError
        When ``out`` holds something else.
    DataError
        When the dataset is missing or malformed.
    """
    table = load(dataset)
    split = pruning_split(table, seed)
    architecture = default_architecture(table)
    run = open_run(out, "prune", {"dataset": dataset, "seed": seed, **asdict(settings)})
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


def as_dense(data: Any, model: nn.Module) -> Dense:
    """Return ``(X, y)`` or a map-style dataset as tensors in memory that fit ``model``.

    Raises
    ------
    DataError
        When there are no samples, lengths disagree, inputs are not finite or not what the model
        takes, or labels are not among its classes.
    """
    if isinstance(data, tuple) and len(data) == 2:
        inputs, labels = (torch.as_tensor(part) for part in data)
    else:
        samples = [data[i] for i in range(len(data))]
        inputs = (
            torch.stack([torch.as_tensor(x) for x, _ in samples]) if samples else torch.empty(0)
        )
        labels = torch.tensor([float(y) for _, y in samples])
    inputs = inputs.float()
    if labels.ndim != 1 or len(inputs) != len(labels) or not len(labels):
        raise DataError(
            f"data must be samples with one integer label each; got inputs of shape "
            f"{tuple(inputs.shape)} and labels of shape {tuple(labels.shape)}"
        )
    if not torch.isfinite(inputs).all():
        raise DataError("the inputs hold NaN or infinite values; clean them first")
    try:
        classes = query.logits(model, inputs[:1]).shape[1]
    except RuntimeError as error:
        raise DataError(
            f"the model does not take inputs of shape {tuple(inputs.shape[1:])}: {error}"
        ) from None
    if not ((labels == labels.long()) & (labels >= 0) & (labels < classes)).all():
        raise DataError(
            f"labels must be integers in 0..{classes - 1}, the model's outputs; "
            f"got {labels.min():g}..{labels.max():g}"
        )
    return inputs, labels.long()


def dense(table: Table, rows: Indices) -> Dense:
    """Return some rows of a table as dense tensors."""
    part = table.take(rows)
    dense = part.inputs if isinstance(part.inputs, np.ndarray) else part.inputs.toarray()
    return torch.from_numpy(dense), torch.from_numpy(part.labels)
