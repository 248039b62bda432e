"""Architectures as JSON and back, so that a file's metadata rebuilds a network without pickle."""

from collections.abc import Mapping
from dataclasses import asdict
from reprlib import repr as abridged
from typing import Any, get_type_hints

import torch

from privet.errors import DataError, OptionError
from privet.models.base import Architecture
from privet.models.counts import parameters
from privet.models.factory import Factory
from privet.models.registry import ARCHITECTURES

NAME = "architecture"
OWN = "own"
MOST_UNITS = 1_000_000
MOST_LAYERS = 100
MOST_PARAMETERS = 500_000_000
MOST_SHOWN = 100


def describe(architecture: Architecture) -> dict[str, Any]:
    """Return an architecture as JSON can hold it: its registered name, and each field.

    A `Factory` is described too, under the name ``own``, to say where a network comes from; it is
    the one description that does not build it again.

    Raises
    ------
    OptionError
        When the architecture is none of `ARCHITECTURES`.
    """
    names = {kind: name for name, kind in ARCHITECTURES.items()} | {Factory: OWN}
    if type(architecture) not in names:
        raise OptionError(
            f"{type(architecture).__name__} cannot be described; choose from "
            f"{', '.join(ARCHITECTURES)}"
        )
    fields = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(architecture).items()
    }
    return {NAME: names[type(architecture)], **fields}


def from_description(description: object) -> Architecture:
    """Return the architecture that `describe` described; the description is not trusted.

    Nothing is imported, and no network is built in memory: its size is known before.

    Parameters
    ----------
    description
        What JSON gave, of any type.

    Raises
    ------
    DataError
        For an unknown name, fields that are missing, unknown or of the wrong type, sizes that
        make no network, and sizes beyond reason: 1,000,000 units or 100 hidden layers in a field,
        500,000,000 parameters together.
    """
    if not isinstance(description, Mapping):
        raise DataError(f"a network's description must be an object; got {_shown(description)}")
    kind = _kind(description)
    hints = get_type_hints(kind)
    wanted = {name: hints[name] for name in kind.__dataclass_fields__}
    given = {name: value for name, value in description.items() if name != NAME}
    if wrong := wanted.keys() ^ given.keys():
        raise DataError(
            f"the description of a {description[NAME]} network must have the fields "
            f"{', '.join(wanted)}; missing or unknown: {_shown(sorted(map(str, wrong)))}"
        )
    values = {name: _read(given[name], wanted[name], name) for name in wanted}
    try:
        architecture = kind(**values)
    except OptionError as error:
        raise DataError(f"a description that makes no network: {error}") from None
    with torch.device("meta"):
        size = parameters(architecture.build())
    if size > MOST_PARAMETERS:
        raise DataError(
            f"a description of {size:,} parameters; at most {MOST_PARAMETERS:,} are read"
        )
    return architecture


def _kind(description: Mapping[Any, Any]) -> type[Architecture]:
    name = description.get(NAME)
    if name == OWN:
        raise DataError(
            f"the network was made by code of someone's own, {_shown(description.get('path'))}, "
            f"which is not run because a file says so; name it yourself"
        )
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise DataError(
            f"there is no architecture {_shown(name)}; choose from {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def _read(value: object, kind: object, field: str) -> Any:
    """Return ``value`` as the field's type, which is one of those that architectures have."""
    if kind is bool and isinstance(value, bool):
        return value
    if not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= MOST_UNITS:
        if kind is float:
            return float(value)
        if kind is int and isinstance(value, int):
            return value
    if kind == tuple[int, ...] and isinstance(value, list) and len(value) <= MOST_LAYERS:
        return tuple(_read(one, int, field) for one in value)
    raise DataError(f"field {field} of a network's description cannot be {_shown(value)}")


def _shown(value: object) -> str:
    """Return a value of any size and nesting as a few characters of one line."""
    text = abridged(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
