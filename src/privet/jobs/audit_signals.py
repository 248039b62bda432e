"""Audit signals that were recorded elsewhere, from NPZ files; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privet.errors import DataError, OptionError
from privet.files import write_json
from privet.jobs.audit import Settings, report
from privet.signals import BoolArray, Evidence, Signals
from privet.tabular import read_npz

TARGET = ("logits", "labels", "members")
REFERENCE = ("logits", "members")
NOISY = ("sensitivity", "robustness")


def audit_signals(
    target: Path, reference: Path | None, *, settings: Settings, out: Path | None
) -> dict[str, Any]:
    """Audit the signals in two files; writes the report to ``out`` and returns it.

    Parameters
    ----------
    target
        NPZ with ``logits`` (samples, classes), ``labels`` (samples,) and ``members`` (samples,):
        what is audited, and the truth. Log-confidences serve as logits.
    reference
        NPZ with ``logits`` (models, samples, classes) and ``members`` (models, samples): other
        models on the same samples, in the same order, and which they trained on. With ``labels``
        in it, these are samples of the attacker's own instead, and attacks that judge each
        audited sample by itself are left out. Models that trained on none of the samples serve
        the offline attacks. None: only attacks without shadow models run.

    Both may hold ``sensitivity`` and ``robustness`` in the shapes of `privet.Signals`.

    Raises
    ------
    DataError
        When a file is missing, damaged, or lacks an array.
    EvidenceError
        When the arrays do not fit together.
    """
    if out is not None and out.resolve() in {p.resolve() for p in (target, reference) if p}:
        raise OptionError(f"{out} holds the signals; name another file for the findings")
    asked = read_npz(target, [TARGET], optional=NOISY)
    labels, truth = asked["labels"], _truth(asked["members"], target)
    signals = _signals({name: array[None] for name, array in asked.items()}, labels)
    evidence = Evidence(signals)
    if reference is not None:
        known = read_npz(reference, [REFERENCE], optional=("labels", *NOISY))
        inside = _truth(known["members"], reference)
        others = _signals(known, known.get("labels", labels))
        if "labels" in known:
            evidence = Evidence(signals, others, inside)
        elif inside.any(axis=1).all() and not inside.all(axis=1).any():
            evidence = Evidence(signals, others, inside, others, inside)
        else:
            # Models that all saw every sample, or none of them, teach no rule.
            evidence = Evidence(signals, reference=others, reference_members=inside)
    audit = report(evidence, truth, settings=settings)
    if out is not None:
        write_json(out, audit)
    return audit


def _signals(arrays: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Signals:
    logits = arrays["logits"]
    return Signals(
        logits.astype(np.float64) if logits.dtype.kind in "iu" else logits,
        labels,
        **{name: arrays[name] for name in NOISY if name in arrays},
    )


def _truth(members: NDArray[Any], path: Path) -> BoolArray:
    if members.dtype.kind not in "biu" or not np.isin(members, (0, 1)).all():
        raise DataError(f"{path}: members must be true or false, or 1 and 0")
    return members.astype(np.bool_)
