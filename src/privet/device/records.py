"""Protect a person's file: read, protect and write it block by block."""

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from privet.device.attribute import check_ratings
from privet.device.formats import opened
from privet.device.membership import log_confidences
from privet.device.network import Array
from privet.device.protect import Bundle, Release, check_budget
from privet.device.rules import Rules
from privet.errors import DataError, OptionError
from privet.files import replacing
from privet.progress import track


def protect_file(
    source: Path | str,
    bundle: Bundle,
    *,
    budget: float,
    key: bytes | Callable[[], bytes],
    out: Path | str,
    changes: Path | str | None = None,
    rules: Rules | None = None,
    untouchable: Collection[Path | str] = (),
) -> dict[str, Any]:
    """Protect every record of ``source`` and write them to ``out``, in the same format.

    Nothing is written unless everything is: on any error ``out`` and ``changes`` stay as they
    were. ``out`` may be ``source``.

    Parameters
    ----------
    source
        Records as lines of ``index:score`` pairs, CSV, TSV, or NPZ (see `privet.device.formats`).
        Membership bundles take no pairs: confidences, or an NPZ array named ``logits``.
    budget
        See `Bundle.protect`.
    key
        32 secret bytes, or a function that returns them. It is called once, when everything else
        looks right and the first records have been read: a mistake in a file name makes no key.
    changes
        A JSON file to list, for each record, what was changed and why; for the person's eyes
        only, since it tells noise from data, and readable by its owner only.
    rules
        Attribute bundles: which entries may change; see `privet.device.rules`.
    untouchable
        Files that ``out`` and ``changes`` must not overwrite, such as the bundle and the key.

    Returns
    -------
    ``records`` and ``changed`` (counts), ``mean_cost``, ``mean_expected_cost``, ``unreached``
    (records whose chosen target, or noise, was not found), ``budget``, ``seconds``.

    Raises
    ------
    DataError
        On anything wrong with the source, naming file, line and value.
    OptionError
        On a budget or key that makes no sense, one path for two purposes, or an ``out`` or
        ``changes`` that is a folder or a device.
    """
    started = perf_counter()
    source, out = Path(source), Path(out)
    notes = None if changes is None else Path(changes)
    _check_targets(source, out, notes=notes, untouchable=untouchable)
    check_budget(bundle.kind, budget)
    if rules is not None and bundle.kind != "attribute":
        raise OptionError(f"rules are for attribute bundles only; this one is of {bundle.kind}")
    costs: list[Array] = []
    expected: list[Array] = []
    missed = 0
    with ExitStack() as stack:
        ratings, names = bundle.kind == "attribute", bundle.feature_names
        table = stack.enter_context(opened(source, bundle.features, ratings=ratings, names=names))
        log = None
        if notes is not None:
            target = stack.enter_context(replacing(notes, mode=0o600))
            log = stack.enter_context(target.open("w", encoding="utf-8"))
        write = stack.enter_context(table.writing(stack.enter_context(replacing(out))))
        count = 0
        for block in track(table.blocks, "Protecting records"):
            _check(source, block, first=count, ratings=ratings, logits=table.logits)
            if callable(key):
                key = key()
            release = bundle.protect(
                block, budget=budget, key=key, rules=rules, logits=table.logits
            )
            write(release.records)
            if log is not None:
                for entry in _describe(bundle, block, release=release, first=count):
                    log.write((",\n" if entry["record"] else "[\n") + json.dumps(entry))
            costs.append(release.cost)
            expected.append(release.expected_cost)
            missed += int((~release.reached).sum())
            count += len(block)
        if count == 0:
            raise DataError(f"{source} holds no records")
        if log is not None:
            log.write("\n]\n")
    cost = np.concatenate(costs)
    return {
        "records": count,
        "changed": int((cost > 0).sum()),
        "mean_cost": float(cost.mean()),
        "mean_expected_cost": float(np.concatenate(expected).mean()),
        "unreached": missed,
        "budget": budget,
        "seconds": perf_counter() - started,
    }


def _check_targets(
    source: Path, out: Path, *, notes: Path | None, untouchable: Collection[Path | str]
) -> None:
    """Refuse to write where the source, the other result, or an untouchable file is."""
    for target in (out,) if notes is None else (out, notes):
        if any(_same(target, Path(path)) for path in untouchable):
            raise OptionError(f"{target} is needed and would be overwritten; name another file")
    if notes is not None and (_same(notes, out) or _same(notes, source)):
        raise OptionError(f"{notes} cannot hold both the records and the list of changes")


def _same(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one file, be it there yet or not."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def _check(source: Path, block: Array, *, first: int, ratings: bool, logits: bool) -> None:
    """Refuse a block that `Bundle.protect` would, but name the file and count from its start."""
    try:
        if ratings:
            check_ratings(block, first)
        elif not logits:
            log_confidences(block, first)
        elif not np.isfinite(block).all():
            row = int((~np.isfinite(block)).any(axis=1).argmax())
            raise DataError(f"record {first + row} holds NaN or infinite logits")
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _describe(
    bundle: Bundle, block: Array, *, release: Release, first: int
) -> Iterator[dict[str, Any]]:
    """Say of each record what was changed and why, for the list of changes."""
    for row in range(len(block)):
        target = int(release.target[row])
        entry: dict[str, Any] = {
            "record": first + row,
            "target": bundle.class_names[target] if bundle.class_names else target,
            "reached": bool(release.reached[row]),
            "cost": release.cost[row].item(),
            "expected_cost": float(release.expected_cost[row]),
        }
        if bundle.kind == "attribute":
            changed = np.flatnonzero(block[row] != release.records[row]).tolist()
            names = bundle.feature_names
            entry["changes"] = [
                {
                    "feature": names[feature] if names else feature,
                    "before": float(block[row, feature]),
                    "after": float(release.records[row, feature]),
                }
                for feature in changed
            ]
        yield entry
