"""SP-ASPP's Table 1, reproduced: ours beside the published figures, and Figures 2-4 and 7."""

from collections.abc import Mapping
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any

from privet.report import tables, wording
from privet.report.blocks import Fold, Numbers, Plot, Prose, Section
from privet.report.markdown import markdown
from privet.report.plots import DASHES, MARKERS, percent_axis
from privet.report.svg import INK, SERIES, draw
from privet.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]


def table1_tables(document: Document) -> list[Table]:
    """Return the paper's table with ours beside it, then every attacker, then every budget."""
    figures = [name for name in ("accuracy", "auc") if _has(document, name)]
    return [
        _published(document),
        *(_attackers(document, figure) for figure in figures),
        _budgets(document),
    ]


def table1_markdown(document: Document) -> str:
    """Return the same tables as a Markdown page."""
    seeds = document["seeds"]
    command = (
        f"privet reproduce table1 --dataset {quote(str(document['dataset']))} "
        f"--scale {document['scale']} --seeds {len(seeds)} --first-seed {seeds[0]}"
    )
    parts = [
        f"# SP-ASPP's Table 1 on {wording.printable(document['dataset'])}, reproduced",
        f"Made by `{command}` with `--table`; seeds {', '.join(map(str, seeds))}.",
    ]
    for part in table1_tables(document):
        parts += [f"## {part.title}", markdown(part).strip(), part.note]
    return "\n\n".join(parts) + "\n"


def sections(document: Document) -> list[Section]:
    """Return the sections of a page on one reproduction."""
    published, *others = table1_tables(document)
    made = {key: document[key] for key in ("dataset", "scale", "seeds", "settings", "versions")}
    settings = tables.settings(made, title="Settings")
    return [
        Section("The paper's table", (Numbers(published), *map(Prose, document["notes"]))),
        Section("Against speed-up", (*_plots(document),)),
        Section("Every attacker, every budget", tuple(map(Numbers, others))),
        Section("How this was made", (Fold("Settings", (Numbers(settings),)),)),
    ]


def _plots(document: Document) -> list[Plot]:
    return [
        Plot(
            plot(document, identity="speedups"),
            "Above, how accurate the defense model is as it shrinks (the paper's Figures 2 and "
            "5); in the middle, how many parameters are left (Figures 3 and 6); below, how often "
            "the attacker is right at each budget (Figures 4 and 7): the lower a line, the "
            "better the protection. Crosses are the paper's own figures, at the speed-ups that "
            "it states and on the mean over budgets.",
        )
    ]


def plot(document: Document, *, identity: str) -> str:
    """Draw accuracy, parameters and attack accuracy of the tiers against their speed-up."""
    return draw(
        partial(_plot, document=document),
        identity=identity,
        title=f"Three line plots against the speed-up of {len(_curve(document))} defense models: "
        "accuracy, parameters, and attack accuracy at each budget",
        height=7.5,
    )


def _plot(figure: "Figure", *, document: Document) -> None:
    rows = _curve(document)
    speedups = [float(row["speedup"]) for row in rows]
    accuracy, parameters, attack = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 3))
    shown = [float(row["accuracy"]) for row in rows]
    spread = [float(row["accuracy_sd"] or 0.0) for row in rows]
    accuracy.errorbar(speedups, shown, spread, color=SERIES[0], marker=MARKERS[0], capsize=2)
    parameters.plot(
        speedups, [row["parameters"] for row in rows], color=SERIES[0], marker=MARKERS[0]
    )
    parameters.set_yscale("log")
    for place, budget in enumerate(document["budgets"]):
        attack.plot(
            speedups,
            [row["attack_accuracy_by_budget"][f"{budget:g}"] for row in rows],
            color=SERIES[place % len(SERIES)],
            linestyle=DASHES[place % len(DASHES)],
            marker=MARKERS[place % len(MARKERS)],
            label=f"budget {budget:g}",
        )
    crosses: dict[str, Any] = {"color": INK, "marker": "x", "linestyle": "none"}
    stated = [row for row in rows if row["paper"]]
    at = [float(row["nominal_speedup"]) for row in stated]
    for axes, figure_of, label in (
        (accuracy, "accuracy", None),
        (parameters, "parameters", None),
        (attack, "attack_accuracy", "the paper's mean"),
    ):
        axes.plot(at, [row["paper"][figure_of] for row in stated], label=label, **crosses)
    accuracy.set_ylabel("accuracy")
    parameters.set_ylabel("parameters")
    attack.set_ylabel("attack accuracy")
    for axes in (accuracy, attack):
        percent_axis(axes, "y")
    attack.set_xscale("log")
    attack.set_xlabel("speed-up (MACs of D / MACs of d)")
    attack.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    attack.xaxis.set_minor_formatter(lambda *_: "")
    figure.legend(loc="outside lower center", ncols=3)


def _curve(document: Document) -> list[Document]:
    """Return the rows that make a curve over speed-ups: the unpruned model and its tiers."""
    rows = [row for row in document["rows"] if not row["control"]]
    return sorted(rows, key=lambda row: float(row["speedup"]))


def _has(document: Document, figure: str) -> bool:
    return any(figure in one for one in document["rows"][0]["attackers"].values())


def _published(document: Document) -> Table:
    seeds = len(document["seeds"])
    about = [f"{_name(row)}: {row['about']}" for row in document["rows"] if row["about"]]
    return table(
        f"Table 1 on {document['dataset']}, {document['scale']} scale",
        (
            "method",
            "speed-up",
            "parameters",
            "published",
            "accuracy of the defense model",
            "published",
            "attack accuracy",
            "published",
        ),
        [
            (
                _name(row),
                wording.speedup(row["speedup"]),
                wording.count(row["parameters"]),
                _paper(row, "parameters"),
                _percent(row, "accuracy"),
                _paper(row, "accuracy"),
                _percent(row, "attack_accuracy"),
                _paper(row, "attack_accuracy"),
            )
            for row in document["rows"]
        ],
        note=f"Mean ± standard deviation over {seeds} seed{'s' * (seeds > 1)}. Speed-ups are true "
        f"ratios of MACs; in brackets after a method stands what the paper calls the speed-up of "
        f"a model with so many parameters. Attack accuracy: of {document['attacker']}, the "
        f"paper's, in expectation over the mechanism, mean over the budgets "
        f"{', '.join(f'{budget:g}' for budget in document['budgets'])}."
        + _few(document)
        + (f" Rows: {'; '.join(about)}." if about else ""),
    )


def _few(document: Document) -> str:
    """Say which rows were attacked on fewer records than the others."""
    rows = document["rows"]
    every = max(row["attacked"] for row in rows)
    fewer = {_name(row): row["attacked"] for row in rows if row["attacked"] < every}
    if not fewer:
        return f" Attacked: {wording.count(every)} records a seed."
    listed = ", ".join(f"{name} on {wording.count(count)}" for name, count in fewer.items())
    return (
        f" Attacked: {wording.count(every)} records a seed, but {listed}; a figure from so few is "
        f"less certain than its deviation over seeds, which attack the same ones, says."
    )


def _attackers(document: Document, figure: str) -> Table:
    """Return every attacker against every row; some attack only where they know the defense."""
    found = [("no protection", document["unprotected"])]
    found += [(_name(row), row["attackers"]) for row in document["rows"]]
    names = [
        name
        for name in document["attackers"]
        if any(figure in attackers.get(name, {}) for _, attackers in found)
    ]
    say = _percent if figure == "accuracy" else _decimal

    def cell(attackers: Document, name: str) -> str:
        known = figure in attackers.get(name, {})
        return say(attackers[name], figure) if known else wording.MISSING

    title = f"{'Accuracy' if figure == 'accuracy' else 'AUC'} of every attacker"
    about = "; ".join(f"{name}: {document['attackers'][name]}" for name in names)
    note = f"Mean over the budgets. Attackers: {about}."
    if len(found) < len(names):  # the shorter side goes across
        columns = ("attacker", *(method for method, _ in found))
        lines = [(name, *(cell(attackers, name) for _, attackers in found)) for name in names]
        return table(title, columns, lines, note=note)
    lines = [(method, *(cell(attackers, name) for name in names)) for method, attackers in found]
    return table(title, ("method", *names), lines, note=note)


def _budgets(document: Document) -> Table:
    keys = [f"{budget:g}" for budget in document["budgets"]]
    return table(
        f"Attack accuracy of {document['attacker']} by budget",
        ("method", *keys),
        [
            (
                _name(row),
                *(wording.percent(row["attack_accuracy_by_budget"][key]) for key in keys),
            )
            for row in document["rows"]
        ],
        note="A budget bounds the expected change of one record.",
    )


def _name(row: Document) -> str:
    """Return a row's method, with the speed-up that the paper names, else its true one."""
    nominal = row["nominal_speedup"]
    if nominal is not None:
        return f"{row['method']} ({nominal:g})"
    return str(row["method"]) if row["control"] else f"{row['method']} [{row['speedup']:.0f}x]"


def _paper(row: Document, figure: str) -> str:
    if not row["paper"]:
        return wording.MISSING
    value = row["paper"][figure]
    return wording.count(value) if figure == "parameters" else wording.percent(value)


def _percent(part: Document, name: str) -> str:
    spread = wording.finite(part.get(f"{name}_sd"))
    mean = wording.percent(part[name])
    return mean if spread is None else f"{mean} ± {100 * spread:.1f}"


def _decimal(part: Document, name: str) -> str:
    spread = wording.finite(part.get(f"{name}_sd"))
    mean = wording.decimal(part[name])
    return mean if spread is None else f"{mean} ± {spread:.3f}"
