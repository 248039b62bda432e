"""What commands share: progress bars on stderr, answers on stdout."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from privet.progress import watching
from privet.report import printable

Json = Annotated[bool, Parameter(negative="")]
"""The ``--json`` of every command that has an answer."""


@contextmanager
def progress() -> Iterator[None]:
    """Show what happens inside the block on stderr: messages, and bars where it is a terminal."""
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    logger = logging.getLogger("privet")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        if console.is_terminal:
            with _bars(console):
                yield
        else:
            yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _bars(console: Console) -> Iterator[None]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:

        def watch(items: Iterable[Any], what: str, total: int | None) -> Iterator[Any]:
            task = bars.add_task(what, total=total)
            try:
                for item in items:
                    yield item
                    bars.advance(task)
            finally:
                bars.remove_task(task)

        with watching(watch):
            yield


def answer(document: Mapping[str, Any], *renderables: RenderableType, as_json: bool) -> None:
    """Print a command's answer: one JSON object, or tables for people."""
    if as_json:
        json.dump(document, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
        return
    console = Console()
    for renderable in renderables:
        if isinstance(renderable, str):
            # Literal and unbroken: names may hold brackets, and commands get pasted.
            renderable = Text(printable(renderable))
        console.print(renderable, soft_wrap=isinstance(renderable, Text))
