"""What every architecture is: a plain description that builds a network."""

from dataclasses import Field
from typing import Any, ClassVar, Protocol

from torch import nn

from privet.errors import OptionError

LEAST_SIDE = 8
"""Fewest pixels a side of an image that the networks for images take."""


class Architecture(Protocol):
    """A frozen dataclass of numbers (`privet.models.describe` turns it into JSON and back)."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def build(self) -> nn.Module:
        """Return the network, freshly initialized from torch's global generator."""


def check_image_network(name: str, *, classes: int, width: int, multiple: int = 1) -> None:
    """Raise `OptionError` unless there are classes, and ``width`` is a ``multiple`` of it."""
    if classes < 1 or width < 1:
        raise OptionError(f"{name} needs a class and a width of 1 or more; got {classes}, {width}")
    if width % multiple:
        raise OptionError(f"the width of {name} must be a multiple of {multiple}; got {width}")
