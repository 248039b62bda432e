"""Memorization scores that an audit has found on the way: one pass of shadow training serves both.

An audit's reference models trained on random parts of the audited samples, which is just what
Feldman's subsampled estimate takes. Those parts hold rows that the target is tested on, too, so
such rows have a say in which training rows count as memorized, though none in what is learned.
"""

from pathlib import Path
from typing import Any

import numpy as np

from privet.defenses import Defense
from privet.errors import DataError
from privet.files import read_json, replacing
from privet.jobs.cases import Case
from privet.memorization import rescaled
from privet.signals import FloatArray, IntArray
from privet.tabular import read_npz

FILE = "memorization.npz"
PLAIN = ("none", "base")
"""Defenses under which models memorize as they would."""


def keep_scores(folder: Path, rows: IntArray, estimated: FloatArray) -> None:
    """Write an audit's memorization estimate of some rows beside it."""
    with replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, rows=rows, scores=estimated)


def known_scores(folder: Path, case: Case) -> FloatArray:
    """Return the scores of a case's training rows from an audited run of the same split.

    Returns
    -------
    Shape (training samples,), scaled to [0, 1].

    Raises
    ------
    DataError
        When the folder holds no such scores, they are of other data, or a row has none.
    """
    if not (folder / FILE).exists():
        raise DataError(f"{folder} holds no {FILE}; run `privet audit {folder}` first")
    settings = read_json(folder / "run.json").get("settings", {})
    if settings.get("defense") not in PLAIN:
        raise DataError(
            f"the run in {folder} is defended by {settings.get('defense')}, and so are the models "
            f"its scores come from; audit a run of {' or '.join(PLAIN)}"
        )
    for key in ("data", "seed", "canaries"):
        if settings.get(key) != case.settings[key]:
            raise DataError(
                f"the scores in {folder} are of {key} {settings.get(key)!r}, not "
                f"{case.settings[key]!r}; audit a run on the same data and seed"
            )
    found = read_npz(folder / FILE, [("rows", "scores")])
    scores = np.full(len(case.made.table), np.nan)
    scores[found["rows"]] = found["scores"]
    ours = scores[case.made.split.train]
    if np.isnan(ours).any():
        raise DataError(
            f"{folder} has no score for {int(np.isnan(ours).sum())} training rows, which every "
            f"shadow model met, or none; audit it with more shadow models, or, where the attacker "
            f"owns no samples beside the audited ones, leave out --scores-of"
        )
    return rescaled(ours)


def spread(scores: FloatArray, defense: Defense) -> dict[str, Any]:
    """Return a histogram of memorization scores, JSON-ready, for a report to draw.

    With it, the score from which on the defense treats samples as risky, None where it does not.
    """
    counts, edges = np.histogram(scores, bins=20, range=(0.0, 1.0))
    threshold = getattr(defense, "threshold", None)
    if threshold is not None and getattr(defense, "quantile", True):
        threshold = float(np.quantile(scores, threshold))
    return {"counts": counts.tolist(), "edges": edges.tolist(), "threshold": threshold}
