"""`privet tune`: search for the defense and settings that suit the data."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from privet.cli.console import Json, answer, progress
from privet.errors import OptionError

if TYPE_CHECKING:
    from privet.jobs.cases import Source
    from privet.jobs.search import Search
    from privet.jobs.settings import PruneSettings


def tune(
    data: str,
    *,
    out: Path,
    model: str = "auto",
    width: int = 0,
    weights: str | None = None,
    heldout: str | None = None,
    samples: int = 0,
    defenses: str = "all",
    sparsity: float = 0.6,
    rounds: int | None = None,
    pruner: Literal["magnitude", "structural"] = "magnitude",
    epochs: int | None = None,
    dense_epochs: int | None = None,
    trials: int = 30,
    loss: float = 0.01,
    repeats: int = 2,
    canaries: int = 0,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Search for the defense and settings that leak least and cost little accuracy on DATA.

    Every trial prunes a network and measures two things on samples that it did not train on: how
    often it is right, and how well the strongest of five simple attacks tells the samples that it
    trained on from them. The first trials are each defense with published or default settings;
    the next are chosen where those before were good. Of all trials, the one that leaks least with
    hardly any accuracy lost is picked, for `privet prune --defense auto --tuned OUT`.

    The test samples play no part, nor do the attacker's. A search that was interrupted goes on
    when the same command is repeated, to the same result; with more --trials or another --loss a
    finished one is taken up again.

    Parameters
    ----------
    data
        A data set from `privet data list`, a CSV, TSV or NPZ file, or a folder of images.
    out
        The search's folder: run.json, with every trial. `privet report OUT` draws them.
    model
        The network, as for `privet prune`.
    width
        Channels of the first stage of an image network, instead of its paper's 64.
    weights
        A safetensors file with the network's weights, if it comes trained. Needs --heldout.
    heldout
        Data that the network never met, in the form of DATA. All of DATA then trains.
    samples
        Use a random choice of so many rows of DATA.
    defenses
        Names separated by commas, in the order of their first trials, or all: every one but dp,
        which takes twenty times as long and has to be named.
    sparsity
        Fraction removed in the end, in [0, 1).
    rounds
        Rounds of pruning in every trial; searched, or what each defense was made for, unless given.
    pruner
        magnitude zeroes single weights; structural removes whole units or channels.
    epochs
        Most epochs of fine-tuning a round, in every trial; searched or the defense's unless given.
    dense_epochs
        Most epochs of training before pruning, in every trial; likewise.
    trials
        How many candidates are tried. With fewer than there are defenses, the last ones are not.
    loss
        How much accuracy the pick may lose against the most accurate trial: 0.01 is one point.
    repeats
        How many times a trial is repeated with other samples to judge on, 1 to 5. More takes
        longer and depends less on chance. A trial that another one beats clearly after the first
        goes no further.
    canaries
        Mislabel this many training samples, as `privet prune --canaries` will.
    seed
        Fixes the split, the weights and what is tried.
    json
        Print all trials and the pick as one JSON object.
    """
    from privet.jobs.cases import Source
    from privet.jobs.search import Search
    from privet.jobs.spaces import SEARCHED
    from privet.jobs.tune import tune as search_settings
    from privet.report.terminal import tune_table

    fixed = {"rounds": rounds, "pruner": pruner, "epochs": epochs, "dense_epochs": dense_epochs}
    search = Search(
        sparsity=sparsity,
        trials=trials,
        loss=loss,
        defenses=SEARCHED if defenses == "all" else tuple(filter(None, defenses.split(","))),
        repeats=repeats,
        fixed={name: value for name, value in fixed.items() if value is not None},
    )
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
    with progress():
        result = search_settings(source, search, out=out)
    answer(result, tune_table(result), _following(source, search, out), as_json=json)


def automatic(
    source: "Source",
    options: Mapping[str, Any],
    *,
    sparsity: float,
    fixed: Mapping[str, Any],
    tuned: Path | None,
) -> "Search | PruneSettings":
    """Return what ``--defense auto`` stands for: a search, or what an earlier one picked."""
    from privet.jobs.search import Search
    from privet.jobs.tune import tuned_before

    if options:
        raise OptionError("--set belongs to one defense; --defense auto searches for its options")
    if tuned is None:
        return Search(sparsity=sparsity, fixed=fixed)
    if given := [name for name, value in fixed.items() if (name, value) != ("pruner", "magnitude")]:
        raise OptionError(f"--tuned brings all settings with it; leave out {given[0]}")
    return tuned_before(tuned, source, sparsity=sparsity)


def _following(source: "Source", search: "Search", out: Path) -> str:
    """Return the command that prunes with the pick."""
    usual = type(source)(source.dataset)
    given = [
        f"--{name} {quote(str(value))}"
        for name, value in {**vars(source), "sparsity": search.sparsity}.items()
        if value != getattr(usual, name, type(search).sparsity)
    ]
    words = ["privet prune", quote(source.dataset), "--defense auto", f"--tuned {quote(str(out))}"]
    return f"Next: {' '.join([*words, *given, '--out RUN'])}"
