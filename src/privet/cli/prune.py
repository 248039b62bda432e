"""`privet prune` and `privet audit`: private pruning and what still leaks."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from privet.cli.console import Json, answer, progress, prose
from privet.cli.tune import automatic
from privet.errors import OptionError

if TYPE_CHECKING:
    from privet.jobs.prune import PruneSettings, Source
    from privet.jobs.search import Search


def prune(
    data: str,
    *,
    out: Path,
    model: str = "auto",
    width: int = 0,
    weights: str | None = None,
    heldout: str | None = None,
    samples: int = 0,
    defense: str = "none",
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    sparsity: float = 0.6,
    rounds: int | None = None,
    schedule: Literal["geometric", "linear"] | None = None,
    pruner: Literal["magnitude", "structural"] = "magnitude",
    pruner_set: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    rewind: int | None = None,
    epochs: int | None = None,
    dense_epochs: int | None = None,
    scores: Literal["folds", "subsampled", "shuffled"] | None = None,
    score_models: int | None = None,
    scores_of: Path | None = None,
    tuned: Path | None = None,
    canaries: int = 0,
    analyse: Annotated[bool, Parameter(negative="")] = False,
    repeats: int | None = None,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Train a network on DATA and prune it in rounds, under a defense.

    Half of the data plays the target's, half is left to the attacker of `privet audit`. A run
    that was interrupted resumes when the same command is repeated.

    Parameters
    ----------
    data
        A data set from `privet data list`, or a file or folder: a CSV or TSV with a column label,
        or the label last; an NPZ with arrays inputs and labels (or X and y); images in a folder
        for each class.
    out
        The run's folder: run.json, the pruned weights as safetensors, all finished stages.
    model
        fc (256 and 128 hidden units, the usual one for tables), resnet18 (for images), vgg16,
        densenet121, vit, lstm; or a network of your own as package.module:factory, a function
        without arguments that returns a torch module.
    width
        Channels of the first stage of an image network, instead of its paper's 64.
    weights
        A safetensors file with the network's weights, if it comes trained. Needs --heldout.
        Defenses that shape all of training (distill, dp) train afresh and leave them aside.
    heldout
        Data that the network never met, in the form of DATA. All of DATA then trains.
    samples
        Use a random choice of so many rows of DATA.
    defense
        What keeps the network from memorizing. distill is the one to start with; none and base
        (early stopping, weight decay) are plain; rsw, rmr and swmr are WeMem's, with published
        settings; others: ppb, adv, dp, relaxloss, hamp, radd. auto searches for the best of them
        and its settings as `privet tune` does, in OUT/tune, which takes some thirty times as long;
        an audit's shadow models are pruned under what was found, not tuned again.
    set_
        Replace one of the defense's settings, e.g. --set width=20; may be repeated.
    sparsity
        Fraction removed in the end, in [0, 1).
    rounds
        Rounds of pruning and fine-tuning; 1 prunes at once. What the defense was made for unless
        given, mostly 5.
    schedule
        How sparsity grows over rounds: geometric, or linear.
    pruner
        magnitude zeroes single weights; structural removes whole units or channels.
    pruner_set
        Replace one of the pruner's settings, e.g. --pruner-set scope=global or importance=taylor.
    rewind
        Let surviving weights return to those of this epoch of dense training after each pruning.
    epochs
        Most epochs of fine-tuning a round; 21 unless the defense has others.
    dense_epochs
        Most epochs of training before pruning; 50 unless the defense has others. With --weights 0,
        unless the defense shapes all of training (distill, dp): then it begins with fresh weights.
    scores
        How memorization is estimated where the defense needs it: folds, subsampled, or shuffled
        (a control that gives samples each other's scores).
    score_models
        How many models that takes; 5 unless given.
    scores_of
        Take memorization scores from the audit of this earlier run on the same data and seed.
    tuned
        With --defense auto, take all settings from this folder of `privet tune` on the same data
        and seed, instead of searching.
    canaries
        Mislabel this many training samples, hold half of them out, and let the audit say how well
        it tells which: what the most vulnerable samples suffer. Costs some accuracy.
    analyse
        Prune under no defense, several times in several ways, and say which of WeMem's methods
        the data calls for: how much training on the same rows in every round raises leakage, and
        how much the samples that are easily memorized do. Uses training rows only.
    repeats
        With --analyse, divisions of the rows that figures are averaged over, at least 2; 3 unless
        given.
    seed
        Fixes the split, the weights and the order of the data.
    json
        Print the result as one JSON object.
    """
    from privet.defenses import choose
    from privet.jobs.prune import Source, prune_source, recommended
    from privet.report.terminal import prune_table

    options, pruner_options = (dict(map(_option, texts)) for texts in (set_, pruner_set))
    if repeats is not None and not analyse:
        raise OptionError(f"--repeats {repeats} goes with --analyse, which divides the rows anew")
    if analyse and scores_of is not None:
        raise OptionError("an analysis estimates memorization anew: leave out --scores-of")
    if tuned is not None and (analyse or defense != "auto"):
        raise OptionError("--tuned brings the settings of a search: it takes --defense auto")
    if analyse and defense == "auto":
        raise OptionError("an analysis is of one defense: none or base")
    if analyse and defense == "none":
        defense = "base"
    source = Source(
        data,
        model=model,
        width=width,
        weights=weights,
        heldout=heldout,
        samples=samples,
        canaries=canaries,
        seed=seed,
    )
    named = {
        "rounds": rounds,
        "schedule": schedule,
        "pruner": pruner,
        "pruner_options": pruner_options or None,
        "rewind": rewind,
        "epochs": epochs,
        "dense_epochs": dense_epochs,
        "scores": scores,
        "score_models": score_models,
    }
    changes = {name: value for name, value in named.items() if value is not None}
    settings: PruneSettings | Search
    if defense == "auto":
        settings = automatic(source, options, sparsity=sparsity, fixed=changes, tuned=tuned)
    else:
        if weights is not None and not analyse and not choose(defense, options).whole:
            changes = {"dense_epochs": 0, **changes}
        settings = recommended(defense, options, sparsity=sparsity, **changes)
        if analyse:
            _analyse(
                source, settings, out=out, repeats=3 if repeats is None else repeats, as_json=json
            )
            return
        _refuse_unused_scores(choose(defense, options).needs, scores, score_models)
    with progress():
        result = prune_source(source, settings, out=out, scores=scores_of)
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


def _refuse_unused_scores(
    needs: frozenset[str], scores: str | None, score_models: int | None
) -> None:
    """Raise `OptionError` where memorization is described to a defense that never asks for it."""
    if "scores" not in needs and (scores is not None or score_models is not None):
        raise OptionError(
            f"--scores and --score-models go with defenses that need memorization scores, such as "
            f"rmr, or with --analyse; got {scores or score_models}"
        )


def _analyse(
    source: "Source", settings: "PruneSettings", *, out: Path, repeats: int, as_json: bool
) -> None:
    from privet.jobs.analyse import analyse
    from privet.report.scenarios import readings, verdict
    from privet.report.terminal import analysis_table

    with progress():
        result = analyse(source, settings, out=out, repeats=repeats)
    said = prose(*readings(result), verdict(result))
    following = f"Next: privet report {quote(str(out))}"
    answer(result, analysis_table(result), *said, following, as_json=as_json)


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
