"""`privet prune`, `privet audit` and `privet report`: private pruning and what still leaks."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

from cyclopts import Parameter

from privet.cli.console import Json, answer, progress
from privet.errors import DataError, OptionError


def prune(
    data: str,
    *,
    out: Path,
    model: Literal["fc"] = "fc",
    defense: str = "none",
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    sparsity: float = 0.6,
    rounds: int = 5,
    pruner: Literal["magnitude", "structural"] = "magnitude",
    epochs: int = 21,
    dense_epochs: int = 50,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Train a network on DATA and prune it in rounds, under a defense.

    Half of the data plays the target's, half is left to the attacker of `privet audit`. A run
    that was interrupted resumes when the same command is repeated.

    Parameters
    ----------
    data
        A data set from `privet data list`, a CSV, TSV or NPZ file, or a folder of images.
    out
        The run's folder: run.json, the pruned weights as safetensors, all finished stages.
    model
        The network: fc is fully connected, 256 and 128 hidden units.
    defense
        What keeps the network from memorizing: none, rsw, rmr or swmr (WeMem, NDSS 2025). The
        defaults are the published settings for the Location data; swmr's window moves on over
        rounds where the published one starts over.
    set_
        Replace one of the defense's settings, e.g. --set width=20; may be repeated.
    sparsity
        Fraction removed in the end, in [0, 1).
    rounds
        Rounds of pruning and fine-tuning.
    pruner
        magnitude zeroes single weights; structural removes whole units.
    epochs
        Most epochs of fine-tuning a round.
    dense_epochs
        Most epochs of training before pruning.
    seed
        Fixes the split, the weights and the order of the data.
    json
        Print the result as one JSON object.
    """
    from privet.jobs.prune import PruneSettings, prune_dataset
    from privet.report.terminal import prune_table

    settings = PruneSettings(
        defense=defense,
        defense_options=dict(_option(text) for text in set_),
        pruner=pruner,
        sparsity=sparsity,
        rounds=rounds,
        epochs=epochs,
        dense_epochs=dense_epochs,
    )
    with progress():
        result = prune_dataset(data, settings, seed=seed, out=out)
    answer(result, prune_table(result), f"Next: privet audit {quote(str(out))}", as_json=json)


def audit(
    run: Path,
    *,
    attacks: str = "all",
    shadows: int = 5,
    seed: int = 0,
    jobs: int = 2,
    json: Json = False,
) -> None:
    """Attack the pruned model in the folder RUN and report what it leaks.

    Shadow models go through the same training, pruning and defense as the target. Findings are
    printed and written to RUN/audit.json.

    Parameters
    ----------
    run
        A folder made by `privet prune`.
    attacks
        Names separated by commas, or all: conf, entr, mentr, hconf.
    shadows
        Number of shadow models.
    seed
        Fixes what the shadow models train on.
    jobs
        Shadow models trained at the same time.
    json
        Print the findings as one JSON object.
    """
    from privet.jobs.audit import audit_run
    from privet.report.terminal import audit_table

    names = attacks if attacks == "all" else [name for name in attacks.split(",") if name]
    with progress():
        result = audit_run(run, attacks=names, shadows=shadows, seed=seed, jobs=jobs)
    answer(result, audit_table(result), f"Next: privet report {quote(str(run))}", as_json=json)


def report(run: Path, *, out: Path | None = None) -> None:
    """Write the figures of RUN as one HTML page with plots that needs no network.

    Parameters
    ----------
    run
        A folder made by `privet prune` or `privet protect build`.
    out
        The page; RUN/report.html by default.
    """
    from privet.files import read_json, write_bytes
    from privet.report import render_html

    if (run / "protect.json").exists():
        html = render_html(read_json(run / "protect.json"), "protect")
    else:
        record = read_json(run / "run.json")
        if record.get("kind") != "prune" or not record.get("result"):
            raise DataError(f"{run} holds no finished run; repeat the command that began it")
        findings = run / "audit.json"
        document = {
            "prune": record["result"],
            "audit": read_json(findings) if findings.exists() else None,
        }
        html = render_html(document, "run")
    page = out or run / "report.html"
    write_bytes(page, html.encode())
    answer({"report": str(page)}, f"wrote {page}", as_json=False)


def _option(text: str) -> tuple[str, int | float | bool | str]:
    """Read ``key=value`` as the plainest type that fits the value."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise OptionError(f"--set takes key=value, e.g. --set width=20; got {text!r}")
    if value in ("true", "false"):
        return key, value == "true"
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value
