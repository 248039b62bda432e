"""`privet tune` and `--defense auto`: find the defense and settings that suit the data.

The test rows stay out: what searches (`privet.jobs.search`) is handed the training and the
development samples and nothing else. An audit of the run that follows makes its shadow models
under the settings that were picked; it does not tune again for each of them.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from privet.errors import DataError, OptionError
from privet.fit import Dense
from privet.jobs.cases import Source, open_case
from privet.jobs.inputs import dense
from privet.jobs.search import Search, explore
from privet.jobs.settings import PruneSettings
from privet.jobs.stages import RECORD, Stages, open_run, read_run
from privet.jobs.trials import Network
from privet.models import reinitialized
from privet.seeds import derive

__all__ = ["Search", "picked", "tune", "tuned", "tuned_before", "tuned_in_memory"]


def tune(source: Source, search: Search, *, out: Path) -> dict[str, Any]:
    """Search for settings on a dataset, in the run folder ``out``; return the search's result.

    A search that was interrupted goes on where it stopped, to the same result. A finished one may
    be taken up with more trials, or another ``loss``: neither changes what the trials before say.

    Raises
    ------
    OptionError
        When ``out`` holds something else, or no trial could be finished.
    DataError
        When the dataset is missing or malformed, or ``out`` was made by another version.
    """
    case = open_case(source)
    lasting = ("sparsity", "defenses", "repeats", "fixed")
    about = {name: getattr(search, name) for name in lasting}
    run = open_run(out, "tune", {**case.settings, **about})
    table, split = case.made.table, case.made.split
    found = explore(
        Network(case.build, case.architecture.build, trained=source.weights is not None),
        (dense(table, split.train), dense(table, split.dev)),
        search=search,
        seed=derive(source.seed, "tune"),
        stages=run,
    )
    return run.finish(
        {
            "dataset": source.dataset,
            **found,
            "seed": source.seed,
            "versions": run.record["versions"],
        }
    )


def tuned_in_memory(
    model: nn.Module, train: Dense, dev: Dense, *, search: Search, seed: int, stages: Stages
) -> PruneSettings:
    """Return the settings picked for a network in memory, which is taken to come trained."""
    network = Network(lambda: deepcopy(model), lambda: reinitialized(model), trained=True)
    return picked(explore(network, (train, dev), search=search, seed=seed, stages=stages))


def tuned(source: Source, search: Search, *, out: Path) -> PruneSettings:
    """Return the settings picked for a run in the folder ``out``, searched for in ``out/tune``.

    Raises
    ------
    OptionError
        When ``out`` holds something else, which would come out only after the search.
    """
    searched = out / "tune"
    strange = {file.name for file in out.iterdir()} - {searched.name} if out.is_dir() else set()
    if strange and not (searched / RECORD).exists():
        raise OptionError(f"{out} holds something other than a tuned run; choose another --out")
    return picked(tune(source, search, out=searched))


def tuned_before(folder: Path, source: Source, *, sparsity: float) -> PruneSettings:
    """Return the settings picked by the finished search in ``folder``, for a run on the same data.

    Raises
    ------
    DataError
        When the search is not finished, or was made on other data or another split: rows that it
        has met could be test rows of this run.
    OptionError
        When it was made for another sparsity.
    """
    run = read_run(folder, "tune")
    if run.result is None:
        raise DataError(f"the search in {folder} is not finished; repeat its `privet tune` command")
    ours, theirs = open_case(source).settings, run.record["settings"]
    for key in sorted(set(ours) - {"model", "width"}):
        if ours[key] != theirs.get(key):
            raise DataError(
                f"the search in {folder} was made with {key} = {theirs.get(key)!r}, not "
                f"{ours[key]!r}; tune on the same data and seed"
            )
    if theirs["sparsity"] != sparsity:
        raise OptionError(
            f"the search in {folder} was made for a sparsity of {theirs['sparsity']}; "
            f"got {sparsity}"
        )
    return picked(run.result)


def picked(found: Mapping[str, Any]) -> PruneSettings:
    """Return the settings that a search picked."""
    known = {each.name for each in fields(PruneSettings)}
    settings = found["pick"]["settings"]
    if set(settings) != known:
        raise DataError("the search is of another version of privet; tune again")
    return PruneSettings(**settings)
