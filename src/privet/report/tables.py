"""The tables of a report as plain text cells, shared by the terminal and the page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from privet.report import overall, wording

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """One table: every cell is finished text.

    ``labels`` is how many leading columns hold names, aligned left; the others hold figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    labels: int = 1


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    note: str = "",
    labels: int = 1,
) -> Table:
    """Return a `Table` whose every text is safe to show (see `wording.printable`)."""
    return Table(
        wording.printable(title),
        tuple(wording.printable(column) for column in columns),
        tuple(tuple(wording.printable(cell) for cell in row) for row in rows),
        wording.printable(note),
        labels,
    )


def described(document: Document) -> str:
    """Return "DATASET, defense D, sparsity S" with whatever of it the document states."""
    parts = [str(document["dataset"])] if document.get("dataset") is not None else []
    if document.get("defense") is not None:
        parts.append(f"defense {document['defense']}")
    if document.get("sparsity") is not None:
        parts.append(f"sparsity {wording.percent(document['sparsity'])}")
    return ", ".join(parts)


def rounds(run: Document) -> Table:
    """Return a pruning run round by round; the note holds the finished model's figures."""
    rows = [
        (
            wording.count(entry["round"]),
            wording.percent(entry["sparsity"]),
            wording.percent(entry["train_accuracy"]),
            wording.percent(entry["dev_accuracy"]),
            wording.duration(entry["seconds"]),
        )
        for entry in run["rounds"]
    ]
    note = (
        f"Finished model: test accuracy {wording.percent(run['test_accuracy'])}, "
        f"train accuracy {wording.percent(run['train_accuracy'])}."
    )
    if run.get("nonzero") is not None and run.get("parameters") is not None:
        note += (
            f" {wording.count(run['nonzero'])} of {wording.count(run['parameters'])} "
            "parameters are left."
        )
    if run.get("guarantee"):
        note += f" Proven: {wording.proof(run['guarantee'])}."
    return table(
        f"Pruning of {described(run)}",
        ("round", "sparsity", "train accuracy", "dev accuracy", "time"),
        rows,
        note=note,
    )


def audit(document: Document, *, intervals: int | None = None) -> Table:
    """Return an audit, one attack a row.

    ``intervals`` is how many of the lowest FPRs have intervals, for want of room; None: all.
    """
    found = document["findings"]
    rates = rated(found, intervals=intervals)
    rows = [
        (
            finding["attack"],
            wording.percent(finding["balanced_accuracy"]),
            wording.decimal(finding["auc"]),
            *cells,
        )
        for finding, cells in zip(found, rates.cells, strict=True)
    ]
    ranks = ""
    if any(finding["balanced_accuracy"] is None for finding in found):
        ranks = " n/a under balanced accuracy: the attack only ranks."
    return table(
        " ".join(("Audit of", described(document))) if described(document) else "Audit",
        ("attack", "balanced accuracy", "AUC", *rates.columns),
        rows,
        note=f"Guessing: balanced accuracy 50.0%, AUC 0.500, TPR equal to FPR. {rates.note}{ranks}",
    )


@dataclass(frozen=True)
class Rates:
    """TPR at FPR of several findings: a column an FPR, a row of cells a finding."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    note: str


def rated(findings: overall.Findings, *, intervals: int | None = None) -> Rates:
    """Return the TPRs at each FPR that some finding resolves; the note names the other FPRs.

    ``intervals`` is as for `audit`.
    """
    levels = overall.levels(findings)
    shown = [
        key
        for key in levels
        if any(wording.resolved(finding["tpr_at_fpr"].get(key)) for finding in findings)
    ]
    bare = set() if intervals is None else set(shown[: max(0, len(shown) - intervals)])
    cells = [tuple(_rate(finding, key, bare=key in bare) for key in shown) for finding in findings]
    entries = [finding["tpr_at_fpr"].get(key) or {} for finding in findings for key in shown]
    counted = any("band_low" in entry for entry in entries)
    note = f"Brackets: 95% interval, in percent{', the threshold counted in' * counted}."
    if bare:
        note = f"{note if bare < set(shown) else ''} A wider terminal shows more intervals.".strip()
    refused = [
        wording.unresolved(float(key), nonmembers=max(one["nonmembers"] for one in findings))
        for key in levels
        if key not in shown
    ]
    columns = tuple(f"TPR at {wording.level(float(key))} FPR" for key in shown)
    return Rates(columns, tuple(cells), " ".join((note, *refused)))


def _rate(finding: Document, key: str, *, bare: bool) -> str:
    entry = finding["tpr_at_fpr"].get(key)
    if bare and wording.resolved(entry):
        return wording.percent(entry["tpr"])
    return wording.rate(entry, fpr=float(key), nonmembers=finding["nonmembers"])


def attacks(document: Document) -> Table:
    """Return where each attack comes from, on how many samples it was judged, and its time."""
    return table(
        "The attacks",
        ("attack", "source", "members", "nonmembers", "time"),
        [
            (
                finding["attack"],
                finding.get("paper") or wording.MISSING,
                wording.count(finding["members"]),
                wording.count(finding["nonmembers"]),
                wording.duration(finding["seconds"]),
            )
            for finding in document["findings"]
        ],
    )


def tiers(build: Document) -> Table:
    """Return a protection build: the unpruned defense model, then one tier a row."""
    base = build["base"]
    searched = any(tier.get("found") is not None for tier in build["tiers"])
    unpruned = build.get("base_attack_accuracy_by_budget") or {}
    first = (
        "unpruned",
        wording.speedup(1),
        wording.count(base["parameters"]),
        wording.count(base["macs"]),
        wording.percent(base["accuracy"]),
        wording.percent(overall.mean_over_budgets(unpruned)),
        wording.MISSING,
        *([wording.MISSING] if searched else []),
    )
    rows = [
        (
            wording.tier(tier),
            wording.speedup(tier["reached_speedup"]),
            wording.count(tier["parameters"]),
            wording.count(tier["macs"]),
            wording.percent(tier["accuracy"]),
            wording.percent(tier.get("attack_accuracy")),
            wording.size(tier["bytes"]) if tier["bundle"] else "refused",
            *([wording.percent(tier.get("found"))] if searched else []),
        )
        for tier in build["tiers"]
    ]
    against = build.get("attack") or {}
    bundles = [PurePath(str(t["bundle"])).name for t in build["tiers"] if t["bundle"]]
    different = overall.different_users(build)
    coarser = any(overall.coarseness(tier) for tier in build["tiers"])
    note = (
        f"{'Weights are float32 unless a tier says otherwise. ' if coarser else ''}"
        f"Attack accuracy: mean over the budgets. {different}{' ' if different else ''}"
        f"Without protection the attack reaches "
        f"{wording.percent(against.get('unprotected_accuracy'))}; always naming the most common "
        f"answer reaches {wording.percent(against.get('majority_accuracy'))}. "
        f"Bundles: {', '.join(bundles) or 'none, every tier was refused'}."
    )
    return table(
        f"Protection of {build['dataset']} ({build['kind']})",
        (
            "tier",
            "reached",
            "parameters",
            "MACs",
            "accuracy",
            "attack accuracy",
            "bundle",
            *(["noise found"] if searched else []),
        ),
        [first, *rows],
        note=note,
    )


def by_budget(build: Document) -> Table:
    """Return the attack's accuracy at each budget, one tier a row."""
    keys = overall.budgets(build)
    series = [("unpruned", build.get("base_attack_accuracy_by_budget") or {})]
    series = series if series[0][1] else []
    series += [
        (wording.tier(tier), tier.get("attack_accuracy_by_budget") or {}) for tier in build["tiers"]
    ]
    return table(
        "Attack accuracy at each budget",
        ("tier", *keys),
        [(name, *(wording.percent(values.get(key)) for key in keys)) for name, values in series],
        note=overall.different_users(build),
    )


def settings(document: Document, *, title: str) -> Table:
    """Return every plain value of a document, and every list of them, by its name.

    Names of parts within parts are joined by a dot; lists of parts are tables of their own
    and left out.
    """
    return table(title, ("setting", "value"), list(_plain(document, "")))


def _plain(value: Document, prefix: str) -> Iterable[tuple[str, str]]:
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping):
            yield from _plain(inner, f"{name}.")
        elif isinstance(inner, Sequence) and not isinstance(inner, str):
            if not any(isinstance(part, (Mapping, list, tuple)) for part in inner):
                yield name, ", ".join(str(part) for part in inner)
        else:
            yield name, "none" if inner is None else str(inner)
