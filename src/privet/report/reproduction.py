"""The tables of a reproduced paper, from its JSON document."""

from collections.abc import Callable, Mapping
from shlex import quote
from typing import Any

from privet.report import wording
from privet.report.markdown import markdown
from privet.report.tables import Document, Table, table


def wemem_tables(document: Document) -> list[Table]:
    """Return WeMem's comparison: defenses, then each attack against each of them."""
    return [
        _defenses(document),
        _by_attack(document, "Balanced accuracy", _balanced, "Guessing is 50.0%."),
        _by_attack(document, "AUC", _auc, "Guessing is 0.500."),
        _by_attack(
            document,
            "TPR at 1% FPR",
            _at_one_percent,
            "Guessing finds 1%. Mean ± standard deviation over the seeds, which differ in their "
            "nonmembers and thresholds too.",
        ),
    ]


def wemem_markdown(document: Document) -> str:
    """Return the same tables as a Markdown page."""
    attacks = document.get("attacks", "all")
    command = (
        f"privet reproduce wemem --dataset {quote(str(document['dataset']))} "
        f"--defenses {','.join(row['defense'] for row in document['rows'])} "
        f"--sparsity {document['sparsity']:g} --seeds {len(document['seeds'])} "
        f"--first-seed {document['seeds'][0]} --shadows {document['shadows']} "
        f"--attacks {attacks if isinstance(attacks, str) else ','.join(attacks)}"
    )
    parts = [
        "# WeMem's defenses, attacked",
        f"Made by `{command}` with `--table`; seeds {', '.join(map(str, document['seeds']))}.",
    ]
    for part in wemem_tables(document):
        parts += [f"## {part.title}", markdown(part).strip(), part.note]
    return "\n\n".join(parts) + "\n"


def _defenses(document: Document) -> Table:
    seeds = len(document["seeds"])
    known = "knows the defense" if document["adaptive"] else "does not know the defense"
    owns = "owns the audited samples" if document["online"] else "owns other samples only"
    return table(
        f"WeMem on {document['dataset']}, {wording.percent(document['sparsity'])} pruned",
        (
            "defense",
            "test accuracy",
            "mean advantage",
            "strongest AUC",
            "strongest TPR at 1% FPR",
            "time",
            "published test accuracy",
        ),
        [_defense(row) for row in document["rows"]],
        note=f"Mean ± standard deviation over {seeds} seed{'s' * (seeds > 1)}. "
        f"Advantage: TPR - FPR of an attack's own decisions, mean over the attacks that decide; "
        f"guessing is 0. The attacker {known}, {owns}, and has "
        f"{wording.count(document['shadows'])} shadow models. Published: from "
        f"public re-runs of the paper's code.",
    )


def _defense(row: Document) -> tuple[str, ...]:
    attacks: Mapping[str, Any] = row["attacks"]
    ranked = max(attacks, key=lambda name: float(attacks[name]["auc"]))
    low = max(attacks, key=lambda name: float(attacks[name]["tpr_at_fpr"]["0.01"]["tpr"]))
    published = row.get("published") or {}
    return (
        str(row["defense"]),
        _percent(row, "test_accuracy"),
        _decimal(row, "mean_advantage"),
        f"{_auc(attacks[ranked])} ({ranked})",
        f"{_at_one_percent(attacks[low])} ({low})",
        wording.duration(row["seconds"]),
        wording.percent(published.get("test_accuracy")),
    )


def _by_attack(document: Document, what: str, say: Callable[[Document], str], note: str) -> Table:
    rows = document["rows"]
    return table(
        f"{what} of each attack",
        ("attack", *(row["defense"] for row in rows)),
        [(name, *(say(row["attacks"][name]) for row in rows)) for name in rows[0]["attacks"]],
        note=note,
    )


def _balanced(attack: Document) -> str:
    return _percent(attack, "balanced_accuracy")


def _auc(attack: Document) -> str:
    return _decimal(attack, "auc")


def _at_one_percent(attack: Document) -> str:
    rate = attack["tpr_at_fpr"]["0.01"]
    return _percent(rate, "tpr") if wording.resolved(rate) else f"{wording.MISSING} (unresolved)"


def _percent(part: Document, name: str) -> str:
    spread = wording.finite(part.get(f"{name}_sd"))
    mean = wording.percent(part[name])
    return mean if spread is None or mean == wording.MISSING else f"{mean} ± {100 * spread:.1f}"


def _decimal(part: Document, name: str) -> str:
    spread = wording.finite(part.get(f"{name}_sd"))
    mean = wording.decimal(part[name])
    return mean if spread is None else f"{mean} ± {spread:.3f}"
