"""Progress of long work, without the library knowing who watches.

Library code wraps its loops in `track`; by default nobody watches and the loop runs unchanged.
The command line installs a watcher that draws Rich progress bars on stderr.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
Watcher = Callable[[Iterable[Any], str, int | None], Iterator[Any]]

_watcher: ContextVar[Watcher | None] = ContextVar("privet_progress", default=None)


def track(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` unchanged, reporting progress on ``what`` to whoever watches.

    ``total`` is the number of items where ``len(items)`` cannot tell it.
    """
    watcher = _watcher.get()
    if watcher is None:
        return iter(items)
    if total is None and isinstance(items, Sized):
        total = len(items)
    return watcher(items, what, total)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Send the progress of everything inside the ``with`` block to ``watcher``."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)
