"""Reading an audit's JSON: whole, of the run it lies with, and of attacks that adapted.

A gate that let damaged or stale figures pass would be worse than none: anything odd is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privet.errors import DataError
from privet.files import read_json
from privet.gate.conditions import fraction

Document = Mapping[str, Any]
ABOUT = ("dataset", "defense", "pruner", "sparsity", "train_accuracy", "test_accuracy")
"""What an audit repeats of the run that it is of."""


@dataclass(frozen=True)
class Rate:
    """A TPR and its two 95 % intervals, in [0, 1]; see `privet.metrics.Rate`.

    ``band_low`` and ``band_high`` are None in audits that give one interval only.
    """

    tpr: float
    low: float
    high: float
    band_low: float | None = None
    band_high: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The interval that `privet audit` shows: the band, where there is one."""
        if self.band_low is None or self.band_high is None:
            return self.low, self.high
        return self.band_low, self.band_high


@dataclass(frozen=True)
class Leak:
    """What one attack found.

    ``balanced_accuracy`` is None for an attack that only ranks; ``rates`` holds, by FPR, None
    where the audit had too few nonmembers to resolve it.
    """

    attack: str
    members: int
    nonmembers: int
    balanced_accuracy: float | None
    auc: float
    rates: Mapping[float, Rate | None]


def read_audit(path: Path) -> Document:
    """Return the audit in a run's folder, or in a file of its own.

    Parameters
    ----------
    path
        The folder of a `privet prune` run that has been audited, or the JSON file of an audit.

    Raises
    ------
    DataError
        When there is no finished run or audit, the audit is of another run than the folder's,
        or its attacks did not adapt to the defense.
    """
    if not path.is_dir():
        return _adaptive(path, unsaid=True)
    run, file = _finished_run(path), path / "audit.json"
    if not file.exists():
        raise DataError(f"{path} has not been audited; first run: privet audit {path}")
    audit = _adaptive(file, unsaid=False)
    for key in ABOUT:
        theirs, ours = audit.get(key), run.get(key)
        if key not in audit or theirs != ours:
            raise DataError(
                f"{file} is of another run than {path / 'run.json'}: its {key} is {theirs!r:.60}, "
                f"not {ours!r:.60}; repeat: privet audit {path}"
            )
    return audit


def _adaptive(file: Path, *, unsaid: bool) -> Document:
    """Return the audit in ``file``; one that does not say how it was made passes if ``unsaid``."""
    audit = read_json(file)
    if not isinstance(audit, dict) or "findings" not in audit:
        raise DataError(f"{file} is no audit: it holds no findings; make it with privet audit")
    adaptive = audit.get("adaptive")
    if adaptive is not True and not (unsaid and adaptive is None):
        raise DataError(
            f"{file} is of attacks that did not adapt to the defense, and understates the leak; "
            f"repeat privet audit without --non-adaptive"
        )
    return audit


def _finished_run(folder: Path) -> Document:
    record = read_json(folder / "run.json")
    if not isinstance(record, dict) or record.get("kind") != "prune":
        raise DataError(f"{folder} holds no run of privet prune")
    result = record.get("result")
    if not isinstance(result, dict):
        raise DataError(f"the run in {folder} is not finished; repeat its privet prune command")
    return result


def leaks(audit: Document) -> list[Leak]:
    """Return what each attack of an audit found.

    Raises
    ------
    DataError
        When there is no finding, or one lacks a part or holds anything but a fraction where one
        belongs.
    """
    findings = audit.get("findings")
    if not isinstance(findings, list) or not findings:
        raise DataError("the audit holds no findings; repeat privet audit")
    try:
        return [_leak(finding) for finding in findings]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"a finding of the audit is damaged ({error!r}); audit again") from None


def _leak(finding: Document) -> Leak:
    attack = finding["attack"]
    if not isinstance(attack, str) or not attack or not attack.isprintable():
        raise DataError(f"an attack of the audit is called {attack!r:.60}; audit again")
    members, nonmembers = finding["members"], finding["nonmembers"]
    if not all(type(count) is int and count > 0 for count in (members, nonmembers)):
        raise DataError(
            f"{attack} was judged on {members!r:.20} members and {nonmembers!r:.20} nonmembers; "
            f"audit again"
        )
    balanced = finding["balanced_accuracy"]
    return Leak(
        attack=attack,
        members=members,
        nonmembers=nonmembers,
        balanced_accuracy=None if balanced is None else checked(balanced, f"{attack}'s accuracy"),
        auc=checked(finding["auc"], f"{attack}'s AUC"),
        rates=dict(
            _rate(entry, level=level, attack=attack, nonmembers=nonmembers)
            for level, entry in finding["tpr_at_fpr"].items()
        ),
    )


def _rate(
    entry: Document, *, level: str, attack: str, nonmembers: int
) -> tuple[float, Rate | None]:
    """Return the FPR that ``level`` spells and the rate there, None if it is not resolved."""
    what = f"{attack}'s TPR at {level:.20} FPR"
    fpr = checked(fraction(level), f"the FPR of {what}")
    resolved = entry.get("resolved", fpr * nonmembers >= 1)
    if type(resolved) is not bool:
        raise DataError(f"{what} is said to be resolved: {resolved!r:.20}; audit again")
    if not resolved:
        return fpr, None
    bands = [key for key in ("band_low", "band_high") if entry.get(key) is not None]
    keys = ("tpr", "low", "high", *bands)
    rate = Rate(**{key: checked(entry[key], f"{what} ({key})") for key in keys})
    lows, highs = (rate.low, rate.band_low), (rate.high, rate.band_high)
    if any(low is not None and low > rate.tpr for low in lows) or any(
        high is not None and high < rate.tpr for high in highs
    ):
        raise DataError(f"{what} lies outside its interval ({rate}); audit again")
    return fpr, rate


def checked(value: object, what: str) -> float:
    """Return ``value`` as a float; `DataError` naming ``what`` unless it is a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise DataError(f"{what} is {value!r:.40}, no number in 0..1; audit again")
    return float(value)
