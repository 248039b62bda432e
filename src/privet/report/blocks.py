"""What pages are made of: sections of prose, figures, tables and commands, not yet in HTML."""

from dataclasses import dataclass
from typing import ClassVar

from privet.report.tables import Table


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    kind: ClassVar[str] = "prose"
    text: str


@dataclass(frozen=True)
class Facts:
    """A few headline figures: name and value."""

    kind: ClassVar[str] = "facts"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plot:
    """An inline SVG and how to read it."""

    kind: ClassVar[str] = "plot"
    svg: str
    reading: str


@dataclass(frozen=True)
class Numbers:
    """A table."""

    kind: ClassVar[str] = "table"
    table: Table


@dataclass(frozen=True)
class Fold:
    """Blocks behind a line that opens them."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: tuple["Block", ...]


@dataclass(frozen=True)
class Commands:
    """Commands to type, one a line."""

    kind: ClassVar[str] = "commands"
    lines: tuple[str, ...]


Block = Prose | Facts | Plot | Numbers | Fold | Commands


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: tuple[Block, ...]
