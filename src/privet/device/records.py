"""Protect a person's file: read, protect and write it block by block."""

import os
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import numpy as np

from privet.device.attribute import check_ratings
from privet.device.changes import Report
from privet.device.formats import Extra, Format, Table, Write, format_of, opened
from privet.device.formats.standard import called, is_standard, whole_output
from privet.device.mechanism import KEY_BYTES, load_or_create_key
from privet.device.membership import log_confidences
from privet.device.network import Array
from privet.device.protect import Bundle, Release, check_budget
from privet.device.rules import Rules
from privet.errors import DataError, OptionError
from privet.files import replacing
from privet.progress import track

BLOCK_NUMBERS = 1 << 21  # in a block, some 16 MB
BLOCK_ROWS = 1024


def protect_file(
    source: Path | str,
    bundle: Bundle,
    *,
    budget: float,
    key: bytes | Callable[[], bytes],
    out: Path | str | None,
    changes: Path | str | None = None,
    rules: Rules | None = None,
    untouchable: Collection[Path | str] = (),
    extra: Extra = "refuse",
    format: Format | None = None,
) -> dict[str, Any]:
    """Protect every record of ``source`` and write them to ``out``, in the same format.

    Nothing is written unless everything is: on any error ``out`` and ``changes`` stay as they
    were, and nothing goes to standard output. Both are whole on the disk before ``changes``, then
    ``out`` takes its place. ``out`` may be ``source``. Memory does not grow with the number of
    records, unless they are an NPZ array in Fortran order, which is read whole.

    Parameters
    ----------
    source
        Records as lines of ``index:score`` pairs, CSV, TSV, Parquet, or NPZ (see
        `privet.device.formats`), or ``-`` for standard input, whose ``format`` has to be named.
        Membership bundles take no pairs: confidences, or an NPZ array named ``logits``.
    budget
        See `Bundle.protect`.
    key
        32 secret bytes, or a function that returns them. It is called once, when everything else
        looks right and the first records have been read: a mistake in a file name makes no key.
    out
        The protected file, ``-`` for standard output, or None for a dry run, which does all but
        write it. Give a dry run a key that it need not make, such as `rehearsal_key`'s. Nobody may
        read the file who may not read ``source``.
    changes
        A file to list, for each record, what was changed and why; for the person's eyes only,
        since it tells noise from data, and readable by its owner only. Readable text if its name
        ends in ``.txt``, else JSON; see `privet.device.changes.Report`.
    rules
        Attribute bundles: which entries may change; see `privet.device.rules`.
    untouchable
        Files that ``out`` and ``changes`` must not overwrite, such as the bundle and the key.
    extra
        What becomes of columns of a CSV, TSV or Parquet file that the bundle does not know, and
        of an NPZ file's other arrays: ``"refuse"`` the file, ``"keep"`` them unchanged, columns in
        place, or ``"drop"`` them. What is kept is not protected, and may give away what the rest
        hides.
    format
        The format of ``source``; by default what its name says.

    Returns
    -------
    ``records`` and ``changed`` (counts), ``mean_cost``, ``mean_expected_cost``, ``unreached``
    (records whose chosen target, or noise, was not found), ``budget``, ``seconds``, ``dry_run``.

    Raises
    ------
    DataError
        On anything wrong with the source, naming file, line and value.
    OptionError
        On a budget or key that makes no sense, one path for two purposes, an ``out`` or
        ``changes`` that is a folder or a device, or an ``out`` named like another format.
    """
    started = perf_counter()
    _check_targets(source, out, notes=changes, untouchable=untouchable)
    check_budget(bundle.kind, budget)
    if rules is not None and bundle.kind != "attribute":
        raise OptionError(f"rules are for attribute bundles only; this one is of {bundle.kind}")
    totals = _Totals()
    with ExitStack() as stack:
        table = stack.enter_context(_opened(source, bundle, extra=extra, format=format))
        _check_suffix(out, format or format_of(source))
        _check_whole(source, table, bundle=bundle, rules=rules)
        # Left in reverse: last comes the result, which may take the source's place.
        result = None if out is None else stack.enter_context(_result(out, source))
        report = None if changes is None else stack.enter_context(_report(Path(changes), bundle))
        with _writing(table, result) as write:
            for block in track(table.blocks, "Protecting records", total=table.total):
                _check(source, block, first=totals.records, bundle=bundle, logits=table.logits)
                if callable(key):
                    key = key()
                release = bundle.protect(
                    block, budget=budget, key=key, rules=rules, logits=table.logits
                )
                if write is not None:
                    write(release.records)
                if report is not None:
                    report.add(block, release, first=totals.records, logits=table.logits)
                totals.add(release)
            if totals.records == 0:
                raise DataError(f"{called(source)} holds no records")
        summary = {**totals.means(), "budget": budget}
        if report is not None:
            report.end(summary)
        # A full disk tells now, while nothing has been replaced.
        for file in (result, None if report is None else report.file):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
    return {**summary, "seconds": perf_counter() - started, "dry_run": out is None}


def rehearsal_key(path: Path | str) -> bytes:
    """Return the key at ``path``, or one to be forgotten where none is yet: nothing is created.

    For a dry run: what it reports is then typical, and not what a later run will release.
    """
    path = Path(path)
    return load_or_create_key(path) if path.exists() else secrets.token_bytes(KEY_BYTES)


@dataclass
class _Totals:
    """What is counted over all blocks."""

    records: int = 0
    changed: int = 0
    unreached: int = 0
    cost: float = 0.0
    expected_cost: float = 0.0

    def add(self, release: Release) -> None:
        self.records += len(release.cost)
        self.changed += int((release.cost > 0).sum())
        self.unreached += int((~release.reached).sum())
        self.cost += float(release.cost.sum())
        self.expected_cost += float(release.expected_cost.sum())

    def means(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "changed": self.changed,
            "mean_cost": self.cost / self.records,
            "mean_expected_cost": self.expected_cost / self.records,
            "unreached": self.unreached,
        }


def _block_rows(bundle: Bundle) -> int:
    """Return how many records to read at a time: few wide ones, many narrow ones.

    Plans of releases take room beside the records, more the more classes there are.
    """
    outputs = bundle.network.sizes[-1]
    return max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // (bundle.features + 64 * outputs)))


def _opened(
    source: Path | str, bundle: Bundle, *, extra: Extra, format: Format | None
) -> AbstractContextManager[Table]:
    """Open the records that a bundle is to protect."""
    return opened(
        source,
        bundle.features,
        ratings=bundle.kind == "attribute",
        names=bundle.feature_names,
        extra=extra,
        format=format,
        rows=_block_rows(bundle),
    )


def _writing(table: Table, result: IO[bytes] | None) -> AbstractContextManager[Write | None]:
    """Return what writes blocks to the result, if there is to be one."""
    return nullcontext() if result is None else table.writing(result)


@contextmanager
def _result(out: Path | str, source: Path | str) -> Iterator[IO[bytes]]:
    """Open the result; standard output gets it whole at the end, or not at all.

    Nobody may read it who may not read the source, of which it may keep columns.
    """
    if is_standard(out):
        with whole_output() as file:
            yield file
        return
    with replacing(Path(out), source=Path(source)) as target, target.open("wb") as file:
        yield file


@contextmanager
def _report(path: Path, bundle: Bundle) -> Iterator[Report]:
    """Open the list of changes, for its owner only."""
    with replacing(path, mode=0o600) as target, target.open("w", encoding="utf-8") as file:
        yield Report(file, bundle, readable=path.suffix.lower() == ".txt")


def _check_targets(
    source: Path | str,
    out: Path | str | None,
    *,
    notes: Path | str | None,
    untouchable: Collection[Path | str],
) -> None:
    """Refuse to write where the source, the other result, or an untouchable file is."""
    if notes is not None and is_standard(notes):
        raise OptionError("the list of changes cannot go to standard output; name a file")
    targets = [Path(path) for path in (out, notes) if path is not None and not is_standard(path)]
    for target in targets:
        if any(_same(target, Path(path)) for path in untouchable):
            raise OptionError(f"{target} is needed and would be overwritten; name another file")
    others = [Path(path) for path in (out, source) if path is not None and not is_standard(path)]
    if notes is not None and any(_same(Path(notes), other) for other in others):
        raise OptionError(f"{notes} cannot hold both the records and the list of changes")


def _same(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one file, be it there yet or not."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def _check_suffix(out: Path | str | None, kind: Format) -> None:
    """Refuse a result whose name says another format than it will have: none is converted."""
    said = "pairs" if out is None or is_standard(out) else format_of(out)
    if said not in ("pairs", kind):
        raise OptionError(f"{out} would hold {kind}, as the source does; end its name accordingly")


def _check_whole(source: Path | str, table: Table, *, bundle: Bundle, rules: Rules | None) -> None:
    """Refuse columns of whole numbers whose lowest or highest legal value is none."""
    if table.whole is None or bundle.kind != "attribute":
        return
    allowed = (rules or Rules()).over(bundle.settings.rules)
    legal = np.stack(allowed.legal_values(bundle.features))
    wrong = table.whole & (legal % 1 != 0).any(axis=0)
    if wrong.any():
        feature = int(wrong.argmax())
        name = bundle.feature_names[feature] if bundle.feature_names else feature
        raise DataError(
            f"{called(source)}: column {name!r} holds whole numbers, but its lowest and highest "
            f"legal values are {legal[0, feature]:g} and {legal[1, feature]:g}; store it as float"
        )


def _check(source: Path | str, block: Array, *, first: int, bundle: Bundle, logits: bool) -> None:
    """Refuse a block that `Bundle.protect` would, but name the file and count from its start."""
    try:
        if bundle.kind == "attribute":
            check_ratings(block, first)
        elif not logits:
            log_confidences(block, first)
        elif not np.isfinite(block).all():
            row = int((~np.isfinite(block)).any(axis=1).argmax())
            raise DataError(f"record {first + row} holds NaN or infinite logits")
    except DataError as error:
        raise DataError(f"{called(source)}: {error} (counting from 0)") from None
