"""What a run is about: the data, who holds which rows, and the network."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from privet.data.registry import DATASETS, load
from privet.data.splits import Planted, own_split, plant_canaries, pruning_split
from privet.data.table import Table, joined, with_held_out
from privet.errors import DataError, OptionError
from privet.fit import seeded
from privet.jobs.inputs import fingerprint, first_answers, require_trainable
from privet.models import Architecture, Factory, architecture_for, default_for, load_weights
from privet.seeds import generator


@dataclass(frozen=True)
class Source:
    """Where a run's data and network come from; kept in the run's settings.

    Parameters
    ----------
    dataset
        A registered name, or the path of a table or image folder (`privet.data.registry`).
    model
        A name from `privet.models.ARCHITECTURES`, ``package.module:factory`` for a network of
        one's own, or "auto" for the usual one of such data.
    width
        Channels of the first stage of an image network; 0 is its usual number. The papers' is 64,
        and eight times the cost of 16 or more.
    weights
        A safetensors file with the network's weights, where it comes trained.
    heldout
        Data that the network never met. Where it is given, all of ``dataset`` trains; otherwise
        half of it does, mostly, and the attacker owns the other half.
    samples
        Use a random choice of so many rows of ``dataset``; 0 uses all.
    canaries
        Mislabeled samples for the audit (`privet.data.splits.plant_canaries`): 0, or at least 2.
    seed
        Fixes the split.
    """

    dataset: str
    model: str = "auto"
    width: int = 0
    weights: str | None = None
    heldout: str | None = None
    samples: int = 0
    canaries: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Case:
    """A run's data, split, and its network.

    Parameters
    ----------
    made
        The table with its split, and the canaries planted in it.
    architecture
        The network, as it is described.
    build
        Makes the network, with the given weights where there are some.
    settings
        What a run remembers: the source, with digests of the files behind it.
    """

    made: Planted
    architecture: Architecture
    build: Callable[[], nn.Module]
    settings: dict[str, Any]


def open_case(source: Source) -> Case:
    """Load and split a source's data, and describe its network.

    Raises
    ------
    DataError
        When a file is missing or malformed, or the network does not take such rows.
    OptionError
        When weights come without rows that the network never met.
    """
    table = _chosen(load(source.dataset), source)
    if source.weights is not None and source.canaries:
        raise OptionError(
            "canaries cannot be planted in a network that comes trained; leave out one of "
            "weights and canaries"
        )
    own = source.heldout is not None or source.weights is not None
    if source.heldout is not None:
        table = with_held_out(table, load(source.heldout))
    if own and table.test is None:
        raise OptionError(
            "weights do not say which rows the network was trained on: name a file of rows that "
            "it never met with --heldout"
        )
    tests = 0 if table.test is None else len(table.test)
    whole = joined(table)
    split = (own_split if own else pruning_split)(whole, source.seed, tests=tests)
    made = plant_canaries(whole, split, count=source.canaries, seed=source.seed)
    architecture = _architecture(source, whole)
    build = _Trained(architecture, source.weights) if source.weights else architecture.build
    network = _checked(build, whole)
    settings = {
        **asdict(source),
        "network": hashlib.sha256(repr(network).encode()).hexdigest(),
        "dataset": _where(source.dataset),
        "heldout": None if source.heldout is None else _where(source.heldout),
        "weights": None if source.weights is None else _where(source.weights),
        "data": fingerprint(whole),
        "weights_digest": None if source.weights is None else _digest(source.weights),
    }
    return Case(made, architecture, build, settings)


def reopen_case(settings: dict[str, Any]) -> Case:
    """Load the case of an earlier run; `DataError` when its data or weights are not what they were.

    A file that changes between two commands would change who was a member.
    """
    source = Source(**{name: settings[name] for name in Source.__dataclass_fields__})
    case = open_case(source)
    behind = {
        "data": source.dataset,
        "weights_digest": source.weights,
        "network": f"the network {source.model}",
    }
    for key, what in behind.items():
        if case.settings[key] != settings.get(key):
            raise DataError(
                f"{what} has changed since the run was made; restore it, or prune again"
            )
    return case


@dataclass(frozen=True)
class _Trained:
    """Builds a network with given weights."""

    architecture: Architecture
    weights: str

    def __call__(self) -> nn.Module:
        from safetensors.torch import load_file

        network = self.architecture.build()
        try:
            state = load_file(Path(self.weights).expanduser())
        except Exception as error:
            raise DataError(
                f"{self.weights} holds no safetensors weights ({error}); write them with "
                f"safetensors.torch.save_file(model.state_dict(), FILE)"
            ) from None
        load_weights(network, state)
        return network


def _chosen(table: Table, source: Source) -> Table:
    """Return the table with a random choice of its rows, where one was asked for."""
    if not source.samples:
        return table
    if not 0 < source.samples <= len(table):
        raise OptionError(
            f"samples must lie in 1..{len(table)}, the rows of {source.dataset}, or be 0 for "
            f"all; got {source.samples}"
        )
    rows = generator(source.seed, "samples").permutation(len(table))[: source.samples]
    return replace(table.take(rows.astype(np.int64)), test=table.test)


def _architecture(source: Source, table: Table) -> Architecture:
    if ":" in source.model:
        return Factory(source.model)
    name = default_for(table.row_shape) if source.model == "auto" else source.model
    usual = architecture_for(name, row_shape=table.row_shape, classes=table.classes)
    if not source.width:
        return usual
    if not hasattr(usual, "width"):
        raise OptionError(f"the network {name} has no width to choose; got {source.width}")
    return replace(usual, width=source.width)


def _checked(build: Callable[[], nn.Module], table: Table) -> nn.Module:
    """Return the network, or refuse one that does not answer rows with a logit for each class."""
    example = torch.zeros(2, *table.row_shape)
    with seeded(0):
        network = build()
    require_trainable(network)
    answers = first_answers(network, example)
    if answers.shape != (2, table.classes):
        raise DataError(
            f"the network must answer with one logit for each of {table.classes} classes; it "
            f"answers two rows with shape {tuple(answers.shape)}"
        )
    return network


def _where(name: str) -> str:
    return name if name in DATASETS else str(Path(name).expanduser().resolve())


def _digest(path: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
