"""A network of the user's own, named on the command line."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from privet.errors import OptionError


@dataclass(frozen=True)
class Factory:
    """A function of the user's own that makes a network: ``package.module:function``.

    Building it runs the user's code, so it is never taken from a file: `privet.models.describe`
    names it, and `privet.models.from_description` refuses it.

    Parameters
    ----------
    path
        A module that can be imported, from the current folder too, a colon, and the name of a
        function (or class) in it, which takes no arguments and returns a new ``nn.Module`` at
        each call.
    """

    path: str

    def __post_init__(self) -> None:
        module, colon, name = self.path.partition(":")
        parts = (*module.split("."), *name.split("."))
        if not colon or not all(part.isidentifier() for part in parts):
            raise OptionError(
                f"a model of your own is named package.module:function; got {self.path!r}"
            )

    def build(self) -> nn.Module:
        """Import the module, call the function, and return its network.

        The current folder joins the import path for good, as worker processes import from there
        too.

        Raises
        ------
        OptionError
            When there is no such module or function, when either raises, or when what comes back
            is no ``nn.Module``.
        """
        module, _, name = self.path.partition(":")
        made = self._called(self._found(self._imported(module), name))
        if not isinstance(made, nn.Module):
            raise OptionError(
                f"{self.path} returned {type(made).__name__}; it must return a torch.nn.Module"
            )
        return made

    def _imported(self, name: str) -> ModuleType:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        # A module written since the last look would not be seen otherwise.
        importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise self._failed("importing it", error) from error
            raise OptionError(
                f"there is no module {error.name} for {self.path}; start where it lies, or "
                f"install it"
            ) from None
        except (Exception, SystemExit) as error:
            raise self._failed("importing it", error) from error

    def _found(self, module: ModuleType, name: str) -> Callable[[], Any]:
        try:
            found = attrgetter(name)(module)
        except AttributeError:
            raise OptionError(
                f"module {module.__name__} has no {name}, which {self.path} names"
            ) from None
        if not callable(found):
            raise OptionError(
                f"{self.path} is of type {type(found).__name__}; name a function that makes the "
                f"network"
            )
        return found  # type: ignore[no-any-return]

    def _called(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except (Exception, SystemExit) as error:
            raise self._failed("calling it without arguments", error) from error

    def _failed(self, doing: str, error: BaseException) -> OptionError:
        reason = " ".join(str(error).split())
        return OptionError(f"{self.path}: {doing} raised {type(error).__name__}: {reason}")
