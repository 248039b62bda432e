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
    canaries: int = 0,
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
    canaries
        Mislabel this many training samples, hold half of them out, and let the audit say how well
        it tells which: what the most vulnerable samples suffer. Costs some accuracy.
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
        result = prune_dataset(data, settings, seed=seed, out=out, canaries=canaries)
    answer(result, prune_table(result), f"Next: privet audit {quote(str(out))}", as_json=json)


def audit(
    run: Path | None = None,
    /,
    *,
    signals: Path | None = None,
    reference: Path | None = None,
    out: Path | None = None,
    attacks: str = "all",
    shadows: int = 5,
    non_adaptive: Annotated[bool, Parameter(negative="")] = False,
    offline: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 0,
    jobs: int = 2,
    json: Json = False,
) -> None:
    """Attack a model and report what it leaks about who it was trained on.

    The model is the one pruned in the folder RUN: shadow models go through the same training,
    pruning and defense, and findings are written to RUN/audit.json. Or it is any model at all
    whose answers were recorded in a file: `privet audit --signals target.npz --reference refs.npz`
    (no torch needed, except for the attacks that learn).

    Parameters
    ----------
    run
        A folder made by `privet prune`.
    signals
        Instead of RUN, an NPZ file with the target's logits (samples, classes), labels and
        members (true or false), both (samples,).
    reference
        With --signals, an NPZ file with the logits (models, samples, classes) of other models on
        the same samples, and members (models, samples): which model trained on which.
    out
        With --signals, where to write the findings as JSON.
    attacks
        Names separated by commas, or all. Thresholds: conf, entr, mentr, hconf, loss. Labels only:
        gap, label-only. Learned: nn, nn-top3, nn-class, samia, boosting, multi-release. Calibrated
        for each sample: lira, rmia, calibrated, lira-offline, rmia-offline.
    shadows
        Number of shadow models. Five are enough to compare; calibrated attacks grow stronger with
        more. Finished ones are kept in RUN/shadows.
    non_adaptive
        Let the attacker not know the defense; findings go to RUN/audit-non-adaptive.json.
    offline
        Let the attacker train on its own half of the data only, not on draws that include the
        audited samples.
    seed
        Fixes what the shadow models train on.
    jobs
        Shadow models trained at the same time.
    json
        Print the findings as one JSON object.
    """
    from privet.jobs.audit import Settings
    from privet.report.terminal import audit_table

    settings = Settings(
        attacks if attacks == "all" else [name for name in attacks.split(",") if name],
        shadows,
        adaptive=not non_adaptive,
        online=not offline,
        seed=seed,
        jobs=jobs,
    )
    if run is not None and signals is None and reference is None and out is None:
        from privet.jobs.audit_run import audit_run

        with progress():
            result = audit_run(run, settings)
        following = f"Next: privet report {quote(str(run))}"
    elif run is None and signals is not None and not (non_adaptive or offline):
        from privet.jobs.audit_signals import audit_signals

        with progress():
            result = audit_signals(signals, reference, settings=settings, out=out)
        following = "" if out is None else f"wrote {out}"
    else:
        raise OptionError(
            "audit takes either RUN (with --non-adaptive or --offline) or --signals FILE (with "
            "--reference and --out)"
        )
    answer(result, audit_table(result), *([following] if following else []), as_json=json)


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
    if page.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"--out names the page, which ends in .html; got {page}")
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
