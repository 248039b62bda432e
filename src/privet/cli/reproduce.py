"""`privet reproduce`: the papers' tables, run again."""

from pathlib import Path
from typing import Literal

from privet.cli.console import Json, answer, progress, prose
from privet.errors import OptionError


def wemem(
    *,
    dataset: str = "location",
    rows: str | None = None,
    sparsity: str | None = None,
    seeds: int | None = None,
    first_seed: int = 0,
    attacks: str = "all",
    shadows: int = 5,
    jobs: int = 2,
    out: Path | None = None,
    table: Path | None = None,
    json: Json = False,
) -> None:
    """Compare WeMem's defenses: test accuracy against what every attack finds, over several seeds.

    Beside the defenses stand controls, such as weight decay alone or shuffled scores, that say
    what explains a defense. Every row, sparsity and seed is pruned and audited in a folder of its
    own below OUT; a reproduction that was interrupted goes on when its command is repeated.

    Parameters
    ----------
    dataset
        A data set from `privet data list`. location runs at the paper's size; cifar10-images at
        one that two processor cores manage within the hour.
    rows
        Names separated by commas; all, defenses, controls and few stand for several. All unless
        given; eight of them for cifar10-images.
    sparsity
        Fractions removed in the end, separated by commas; 0.5,0.6,0.7 unless given, 0.6 for
        cifar10-images.
    seeds
        How many seeds; 3 unless given, 1 for cifar10-images.
    first_seed
        The first of them.
    attacks
        Names separated by commas, or all; see `privet audit --help`.
    shadows
        Number of shadow models for each run.
    jobs
        Shadow models trained at the same time.
    out
        Folder for the runs and wemem.json; reproduce-wemem-DATASET unless given.
    table
        Also write the tables as Markdown to this file.
    json
        Print the result as one JSON object.
    """
    from privet.files import write_bytes
    from privet.jobs.audit import Settings
    from privet.report.reproduction import wemem_markdown, wemem_tables
    from privet.report.terminal import fitting
    from privet.reproduce.rows import choose_rows
    from privet.reproduce.wemem import SCALES, Scale, reproduce_wemem

    scale = SCALES.get(dataset, Scale())
    names = scale.rows if rows is None else [name for name in rows.split(",") if name]
    seeds = scale.seeds if seeds is None else seeds
    _check_seeds(seeds, first_seed)
    _check_file(table)
    settings = Settings(
        attacks if attacks == "all" else [name for name in attacks.split(",") if name],
        shadows,
        jobs=jobs,
    )
    folder = out or Path(f"reproduce-wemem-{Path(dataset).stem}")
    with progress():
        document = reproduce_wemem(
            dataset,
            out=folder,
            rows=choose_rows(names),
            sparsities=scale.sparsities if sparsity is None else _fractions(sparsity),
            seeds=range(first_seed, first_seed + seeds),
            settings=settings,
        )
    written = [folder / "wemem.json"]
    if table is not None:
        write_bytes(table, wemem_markdown(document).encode())
        written.append(table)
    tables = map(fitting, wemem_tables(document))
    answer(document, *tables, *map("wrote {}".format, written), as_json=json)


def table1(
    *,
    dataset: str = "att",
    scale: Literal["small", "paper"] = "small",
    seeds: int = 3,
    first_seed: int = 0,
    out: Path | None = None,
    table: Path | None = None,
    json: Json = False,
) -> None:
    """Compare pruned defense models with unpruned ones, as SP-ASPP's Table 1 does.

    Every row is built and attacked on every seed: the paper's speed-ups, controls that say what
    explains them (unpruned, random units, trained too long, random noise of equal cost), and
    attackers beyond the paper's, among them some that know the defense. A reproduction that was
    interrupted goes on when its command is repeated. `privet report OUT` draws the curves.

    Parameters
    ----------
    dataset
        att protects an attribute; location, texas100, ch-mnist and cifar10-images protect
        membership. Any other data set of privet data list, or a file, works too.
    scale
        small takes minutes; paper is the paper's size, which for att takes about an hour a seed.
    seeds
        How many seeds.
    first_seed
        The first of them.
    out
        Folder for the finished stages and table1.json; reproduce-table1-DATASET unless given.
    table
        Also write the tables as Markdown to this file.
    json
        Print the result as one JSON object.
    """
    from privet.files import write_bytes
    from privet.report.table1 import table1_markdown, table1_tables
    from privet.report.terminal import fitting
    from privet.reproduce.table1 import reproduce_table1

    _check_seeds(seeds, first_seed)
    _check_file(table)
    folder = out or Path(f"reproduce-table1-{Path(dataset).stem}")
    with progress():
        document = reproduce_table1(
            dataset, out=folder, scale=scale, seeds=range(first_seed, first_seed + seeds)
        )
    written = [folder / "table1.json"]
    if table is not None:
        write_bytes(table, table1_markdown(document).encode())
        written.append(table)
    answer(
        document,
        *map(fitting, table1_tables(document)),
        *prose(*document["notes"]),
        *map("wrote {}".format, written),
        as_json=json,
    )


def _check_seeds(seeds: int, first: int) -> None:
    if seeds < 1 or first < 0:
        raise OptionError(
            f"seeds must be at least 1 and the first at least 0; got {seeds} and {first}"
        )


def _check_file(table: Path | None) -> None:
    if table is None:
        return
    above = next(parent for parent in table.absolute().parents if parent.exists())
    if table.is_dir() or not above.is_dir():
        raise OptionError(f"--table names a Markdown file to write; {table} cannot be one")


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--sparsity takes numbers separated by commas; got {text!r}") from None
