"""Which of several tiers a device should run: the best one within its memory and patience."""

import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np

from privet.device.bundle import Outline, load_bundle, outline
from privet.device.case import dense
from privet.device.protect import Bundle
from privet.device.quantize import PRECISIONS
from privet.device.self_test import KEY, made_up
from privet.errors import DataError, OptionError
from privet.files import read_json, write_json

MB = 1e6
RUNTIME = 50.0  # MB: Python, NumPy, the command line, names, and room, since builds differ
PATIENCE = 1.0  # seconds of trying, after which one tier's speed is known well enough


def pick(
    paths: Sequence[Path], *, max_memory: float | None = None, max_ms: float | None = None
) -> Path:
    """Return the best of several bundles that fits: most MACs, then the finest precision.

    Parameters
    ----------
    paths
        Bundle files of one kind, and for the same number of features.
    max_memory
        Most MB (of a million bytes) that `privet protect apply` may take while it protects one
        record; see `memory_needed`. Many records at once take more, for speed's sake.
    max_ms
        Most milliseconds that one record may take on this machine, not counting start and
        loading; tried here with each bundle's self-test records, the best bundle first. Measured
        speeds vary, and the choice with them: `pick_once` keeps to it.

    Raises
    ------
    BundleError
        When a file is no usable bundle.
    OptionError
        When limits are not above 0, bundles do not go together, or none fits; the message then
        names the smallest need.
    """
    for name, limit in (("memory", max_memory), ("milliseconds", max_ms)):
        if limit is not None and not limit > 0:
            raise OptionError(f"the most {name} must be above 0; got {limit:g}")
    found = {path: outline(path) for path in paths}
    _check_alike(found)
    order = sorted(paths, key=lambda path: _rank(found[path]))
    needs = {path: memory_needed(found[path]) for path in order}
    small = [path for path in order if max_memory is None or needs[path] <= max_memory]
    if not small:
        least = min(order, key=needs.__getitem__)
        raise OptionError(
            f"no bundle fits into {max_memory:g} MB: {least} takes least, about {needs[least]:.0f}"
        )
    if max_ms is None:
        return small[0]
    taken = {}
    for path in small:
        taken[path] = milliseconds(load_bundle(path))
        if taken[path] <= max_ms:
            return path
    quickest = min(taken, key=taken.__getitem__)
    raise OptionError(
        f"no bundle takes at most {max_ms:g} ms a record here: "
        f"{quickest} is quickest, about {taken[quickest]:.3g}"
    )


def pick_once(
    paths: Sequence[Path], note: Path, *, max_memory: float | None, max_ms: float
) -> tuple[Path, Callable[[], None]]:
    """Return what `pick` says within these limits, or said of the same bundles when it counted.

    A choice by the clock may fall otherwise in another run, and two bundles' releases of one record
    reveal more together than one does.

    Parameters
    ----------
    paths, max_memory, max_ms
        See `pick`.
    note
        A JSON file of earlier choices, which belongs to the secret key.

    Returns
    -------
    The bundle, and what writes the choice down: to be called before anything is released.

    Raises
    ------
    BundleError, OptionError
        As `pick` does.
    DataError
        When the note is damaged.
    """
    digests = {path: _digest(path) for path in paths}
    question = json.dumps([sorted(digests.values()), max_memory, max_ms])
    choices = read_json(note) if note.exists() else {}
    if not isinstance(choices, dict):
        raise DataError(f"{note} is no note of bundles chosen; delete it, and choose anew")
    known = [path for path, digest in digests.items() if digest == choices.get(question)]
    chosen = known[0] if known else pick(paths, max_memory=max_memory, max_ms=max_ms)

    def settle() -> None:
        if not known:
            write_json(note, {**choices, question: digests[chosen]})

    return chosen, settle


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def memory_needed(found: Outline) -> float:
    """Return the MB within which a process protects one record at a time with a bundle.

    That is Python, NumPy and the command line, and 4 bytes a parameter whatever the precision,
    since the device computes in float32. While it loads, coarser weights are there as stored, too.
    While it searches, so are copies of what is multiplied in another order: the first layer of an
    attribute bundle, without what never changes, and what the search of one record holds, as long
    as few of its entries are above 0; all layers of a membership bundle, twice. Not counted are the
    packages that read Parquet files and check signatures.
    """
    inputs, *hidden, outputs = found.layers
    parameters = sum((a + 1) * b for a, b in pairwise(found.layers))
    loading = {"float32": 0, "float16": 2, "int8": 1}[found.precision] * parameters
    if found.kind == "membership":
        searching = 8 * parameters
    else:
        record = 4 * outputs * (inputs + 6 * sum(hidden)) + 48 * found.logits
        searching = 4 * inputs * hidden[0] + record
    return RUNTIME + (4 * parameters + max(loading, searching)) / MB


def milliseconds(bundle: Bundle) -> float:
    """Measure how long protecting one record takes, alone: the median over its self-test's."""
    # Making records up loads NumPy's generators, which take memory of their own.
    cases, taken = bundle.self_test or made_up(bundle), []
    began = perf_counter()
    for case in (cases[0], *cases):  # the first one warms caches up
        record = dense(bundle.kind, case.record, bundle.features)[None]
        started = perf_counter()
        bundle.protect(record, budget=case.budget, key=KEY)
        taken.append(1000 * (perf_counter() - started))
        if perf_counter() - began > PATIENCE:
            break
    return float(np.median(taken[1:] or taken))


def _rank(found: Outline) -> tuple[int, int]:
    macs = sum(a * b for a, b in pairwise(found.layers))
    return -macs, PRECISIONS.index(found.precision)


def _check_alike(found: dict[Path, Outline]) -> None:
    """Refuse bundles that no person could choose from for one and the same file."""
    if not found:
        raise OptionError("there is no bundle to pick from; name at least one")
    (first, like), *others = found.items()
    for path, other in others:
        if (other.kind, other.layers[0]) != (like.kind, like.layers[0]):
            raise OptionError(
                f"{first} protects {like.kind} with {like.layers[0]} features and {path} "
                f"{other.kind} with {other.layers[0]}; pick from bundles of one kind"
            )
