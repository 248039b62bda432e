"""What commands share: progress bars on stderr, answers on stdout."""

import json
import logging
import sys
import time
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

PATIENCE = 60  # seconds that a log of work under way stays silent
_logger = logging.getLogger("privet")

Json = Annotated[bool, Parameter(negative="")]
"""The ``--json`` of every command that has an answer."""


@contextmanager
def progress() -> Iterator[None]:
    """Show what happens inside the block on stderr: messages, and bars where it is a terminal.

    Where it is a file, what takes longer than a minute gets a line a minute.
    """
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    try:
        if console.is_terminal:
            with _bars(console):
                yield
        else:
            with watching(_lines):
                yield
    finally:
        _logger.removeHandler(handler)


def _lines(items: Iterable[Any], what: str, total: int | None) -> Iterator[Any]:
    said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - said >= PATIENCE:
            said = time.monotonic()
            _logger.info("%s: %d%s", what, done, "" if total is None else f" of {total}")


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
            console.print(Text(printable(renderable)), soft_wrap=True)
        else:
            console.print(renderable)


def prose(*sentences: str) -> list[Text]:
    """Return sentences for `answer` that are broken where the terminal ends."""
    return [Text(printable(sentence)) for sentence in sentences]
