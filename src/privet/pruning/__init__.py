"""Pruning: what to remove (`Pruner`), how fast (`schedule`), and the rounds (`iterate`).

To add a pruner: one file with a frozen dataclass that satisfies `Pruner`, one row in `PRUNERS`.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from privet.errors import OptionError
from privet.pruning.base import Pruner, keep_at
from privet.pruning.magnitude import Magnitude
from privet.pruning.structural import Structural

__all__ = ["PRUNERS", "Pruner", "choose", "keep_at"]

PRUNERS: Mapping[str, Pruner] = {"magnitude": Magnitude(), "structural": Structural()}
"""Every pruner by the name that the command line uses, with its defaults."""


def choose(name: str, options: Mapping[str, Any]) -> Pruner:
    """Return a pruner by name, with some of its defaults replaced.

    Raises
    ------
    OptionError
        On an unknown name, an option that the pruner does not have, or a value that it does not
        take.
    """
    if name not in PRUNERS:
        raise OptionError(f"unknown pruner {name!r}; choose from {', '.join(PRUNERS)}")
    pruner = PRUNERS[name]
    known = asdict(pruner)  # type: ignore[call-overload]
    for key, value in options.items():
        if key not in known:
            raise OptionError(
                f"pruner {name} has no option {key!r}; it has {', '.join(known) or 'none'}"
            )
        # What is None by default is a seed.
        wanted = int if known[key] is None else type(known[key])
        if type(value) is not wanted and value != known[key]:
            raise OptionError(
                f"option {key} of pruner {name} takes {wanted.__name__}; got {value!r}"
            )
    return replace(pruner, **options)  # type: ignore[type-var]
