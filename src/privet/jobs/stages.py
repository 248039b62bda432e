"""Stages of a long job: what is finished is written down, and never done twice.

A run is a folder. ``run.json`` holds its settings, versions and finished stages; a stage's
arrays lie beside it as safetensors. Both are written atomically, arrays first, so a run killed
at any moment resumes at its last finished stage.
"""

import json
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from privet.errors import DataError, OptionError
from privet.files import UNFINISHED, read_json, replacing, write_json

RECORD = "run.json"
FORMAT = 2


class Stages(Protocol):
    """Remembers finished stages, or does not."""

    def recall(self, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the record and tensors of a finished stage, None if it is not finished."""

    def keep(self, name: str, record: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Write down a finished stage."""


class Forgetful:
    """Stages of work that is kept in memory only."""

    def recall(self, name: str) -> None:
        """Return None: nothing is remembered."""

    def keep(self, name: str, record: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; make it with `open_run`, read a finished one with `read_run`."""

    path: Path
    record: dict[str, Any] = field(repr=False)

    def recall(self, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the record and tensors of a finished stage, None if it is not finished."""
        from safetensors.torch import load_file

        if name not in self.record["stages"]:
            return None
        file = self._file(name)
        try:
            return self.record["stages"][name], load_file(file)
        except Exception as error:
            raise DataError(
                f"{file} is damaged ({error}); delete {self.path} and run again"
            ) from None

    def keep(self, name: str, record: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Write down a finished stage: its tensors first, then the record that vouches for them."""
        from safetensors.torch import save_file

        with replacing(self._file(name)) as temporary:
            # Copies, since weights that two layers share would be refused.
            whole = {key: value.contiguous().clone() for key, value in tensors.items()}
            save_file(whole, temporary)
        self.record["stages"][name] = dict(record)
        self._save()

    @property
    def result(self) -> dict[str, Any] | None:
        """The finished run's result, None while there is none."""
        return self.record["result"]  # type: ignore[no-any-return]

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write down the result of the whole run, and return it."""
        self.record["result"] = result
        self._save()
        return result

    def withdraw(self) -> None:
        """Remove the record of a run that could not even begin; keep one with finished stages."""
        if not self.record["stages"]:
            (self.path / RECORD).unlink()
            with suppress(OSError):  # not empty: something else is in it
                self.path.rmdir()

    def _save(self) -> None:
        write_json(self.path / RECORD, self.record)

    def _file(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.safetensors"


def open_run(path: Path, kind: str, settings: Mapping[str, Any]) -> RunFolder:
    """Start a run in ``path``, or take up the one that was begun there with equal settings.

    Raises
    ------
    OptionError
        When the folder holds a run with other settings, or files that are no run.
    """
    # As JSON gives them back: tuples as lists.
    asked = json.loads(json.dumps(dict(settings)))
    if (path / RECORD).exists():
        found = read_run(path, kind)
        theirs = found.record["settings"]
        for key in {**asked, **theirs}:
            if key == "data" and theirs.get(key) != asked.get(key):
                raise OptionError(
                    f"the data has changed since the run in {path} was made; restore it, or "
                    f"choose another --out"
                )
            if theirs.get(key) != asked.get(key):
                raise OptionError(
                    f"{path} holds a run with {key} = {theirs.get(key)!r}, not "
                    f"{asked.get(key)!r}; choose another --out"
                )
        return found
    if path.exists() and (not path.is_dir() or any(not _begun(p) for p in path.iterdir())):
        raise OptionError(f"{path} exists and holds no run of privet; choose another --out")
    record = {
        "format": FORMAT,
        "kind": kind,
        "settings": asked,
        "versions": versions(),
        "stages": {},
        "result": None,
    }
    run = RunFolder(path, record)
    write_json(path / RECORD, record)
    return run


def _begun(file: Path) -> bool:
    """Say whether a run leaves this behind before its first record is whole.

    That is the record, half written when the run was killed, and the search that it began with.
    """
    searched = file.name == "tune" and (file / RECORD).exists()
    return searched or file.name.startswith(UNFINISHED)


def read_run(path: Path, kind: str) -> RunFolder:
    """Read the run in ``path``; `DataError` when there is none of this kind."""
    if not (path / RECORD).exists():
        raise DataError(f"{path} holds no run: {path / RECORD} is missing")
    record = read_json(path / RECORD)
    known = isinstance(record, dict) and {"settings", "stages", "result"} <= set(record)
    if not known or record.get("format") != FORMAT:
        raise DataError(f"{path / RECORD} is no run of this version of privet")
    if record.get("kind") != kind:
        raise DataError(f"{path} holds a run of kind {record.get('kind')!r}, not {kind!r}")
    return RunFolder(path, record)


def remembered(stages: Stages, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a stage without tensors, made now unless it is finished."""
    if (finished := stages.recall(name)) is not None:
        return finished[0]
    record = make()
    stages.keep(name, record, {})
    return record


def versions() -> dict[str, str]:
    """Return the versions that figures depend on; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in ("privet", "numpy", "scipy", "scikit-learn", "torch", "torch-pruning", "optuna"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
