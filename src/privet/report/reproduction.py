"""The tables of a reproduced paper, from its JSON document."""

from collections.abc import Callable, Mapping, Sequence
from shlex import quote
from typing import Any

from privet.report import wording
from privet.report.markdown import markdown
from privet.report.tables import Document, Table, table


def wemem_tables(document: Document) -> list[Table]:
    """Return WeMem's comparison at each sparsity: rows, then each attack against each of them."""
    tables: list[Table] = []
    found = {(row["defense"], row["sparsity"]): row for row in document["rows"]}
    names = dict.fromkeys(row["defense"] for row in document["rows"])
    for sparsity in _sparsities(document):
        # Rows that fix their own sparsity, such as the unpruned network, stand in every table.
        at = (found.get((name, sparsity), found.get((name, 0.0))) for name in names)
        rows = [row for row in at if row is not None]
        part = {**document, "rows": rows, "sparsity": sparsity}
        tables += [_defenses(part), *(_by_attack(part, *each) for each in _FIGURES)]
    return tables


def wemem_markdown(document: Document) -> str:
    """Return the same tables as a Markdown page."""
    attacks = document.get("attacks", "all")
    names = dict.fromkeys(row["defense"] for row in document["rows"])
    command = (
        f"privet reproduce wemem --dataset {quote(str(document['dataset']))} "
        f"--rows {','.join(names)} "
        f"--sparsity {','.join(f'{sparsity:g}' for sparsity in _sparsities(document))} "
        f"--seeds {len(document['seeds'])} "
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


def _sparsities(document: Document) -> list[float]:
    found = document["sparsity"]
    return list(found) if isinstance(found, list) else [found]


def _defenses(document: Document) -> Table:
    seeds = len(document["seeds"])
    known = "knows the defense" if document["adaptive"] else "does not know the defense"
    owns = "owns the audited samples" if document["online"] else "owns other samples only"
    rows = document["rows"]
    about = [f"{row['defense']}: {row['about']}" for row in rows if row["about"]]
    scale, skipped = document.get("scale") or {}, document.get("skipped") or {}
    size = [
        f"{scale['samples']} samples" if scale.get("samples") else "",
        f"network {scale['model']}, width {scale['width']}" if scale.get("width") else "",
        ", ".join(f"{key} {value}" for key, value in (scale.get("changes") or {}).items()),
    ]
    small = "; ".join(part for part in size if part)
    return table(
        f"WeMem on {document['dataset']}, {wording.percent(document['sparsity'])} pruned",
        (
            "row",
            "test accuracy",
            "threshold attacks' mean balanced accuracy",
            "pooled attacks' mean balanced accuracy",
            "strongest pooled AUC",
            "strongest calibrated AUC",
            "AUC with the unpruned network",
            "strongest TPR at 1% FPR",
            "time",
            "published test accuracy",
        ),
        [_defense(row) for row in rows],
        note=f"Mean ± standard deviation over {seeds} seed{'s' * (seeds > 1)}; guessing is 50% and "
        f"0.500. Pooled attacks ({', '.join(document['pooled'])}, of which the first four learn "
        f"thresholds) hold all samples to one rule, calibrated ones (LiRA, RMIA) each sample to "
        f"models that did and did not train on it. "
        f"The attacker "
        f"{known}, {owns}, and has {wording.count(document['shadows'])} shadow models. Published: "
        f"from public re-runs of the paper's code."
        + (f" Size: {small}." if small else "")
        + (f" Rows: {'; '.join(about)}." if about else "")
        + "".join(f" Left out: {row} ({why})." for row, why in skipped.items())
        + _guarantees(rows),
    )


def _guarantees(rows: Sequence[Document]) -> str:
    """Return what rows with a proof prove, in a sentence each."""
    proven = [row for row in rows if row.get("guarantee")]
    return "".join(f" {row['defense']}: {wording.proof(row['guarantee'])}." for row in proven)


def _defense(row: Document) -> tuple[str, ...]:
    attacks: Mapping[str, Any] = row["attacks"]
    low = max(attacks, key=lambda name: float(attacks[name]["tpr_at_fpr"]["0.01"]["tpr"]))
    published = row.get("published") or {}
    releases = attacks.get("multi-release")
    return (
        str(row["defense"]),
        _percent(row, "test_accuracy"),
        _percent(row, "threshold_balanced_accuracy"),
        _percent(row, "pooled_balanced_accuracy"),
        _strongest(row["strongest_pooled"]),
        _strongest(row["strongest_calibrated"]),
        wording.MISSING if releases is None else _auc(releases),
        f"{_at_one_percent(attacks[low])} ({low})",
        wording.duration(row["seconds"]),
        wording.percent(published.get("test_accuracy")),
    )


def _strongest(found: Document | None) -> str:
    return wording.MISSING if found is None else f"{_auc(found)} ({found['attack']})"


def _by_attack(document: Document, what: str, say: Callable[[Document], str], note: str) -> Table:
    rows = document["rows"]
    attacks = list(rows[0]["attacks"])
    return table(
        f"{what} of each attack, {wording.percent(document['sparsity'])} pruned",
        ("row", *attacks),
        [(row["defense"], *(say(row["attacks"][name]) for name in attacks)) for row in rows],
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


_FIGURES = (
    ("Balanced accuracy", _balanced, "Guessing is 50.0%."),
    ("AUC", _auc, "Guessing is 0.500."),
    (
        "TPR at 1% FPR",
        _at_one_percent,
        "Guessing finds 1%. Mean ± standard deviation over the seeds, which differ in their "
        "nonmembers and thresholds too.",
    ),
)
