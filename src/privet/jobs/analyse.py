"""`privet prune --analyse`: how much reuse and memorability raise leakage, on one's own model.

    rows -> repeats (`privet.jobs.variants`) -> AUCs -> effects (`privet.jobs.scenarios`)

Only rows that the model would train on are divided and judged by. The development set stops
training early, and the test split is never touched.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from privet.errors import DataError, OptionError
from privet.fit import Dense
from privet.jobs.cases import Source, open_case
from privet.jobs.inputs import dense
from privet.jobs.prune_network import Build
from privet.jobs.scenarios import conclude, mean
from privet.jobs.settings import PruneSettings
from privet.jobs.stages import Stages, open_run
from privet.jobs.variants import Repeat, divide, estimate_of
from privet.models import describe
from privet.progress import track
from privet.seeds import derive

LEAST_ROWS = 80
"""Training rows, below which quarters of the audited ones are too few to say anything."""
UNDEFENDED = ("none", "base")


def analyse(
    source: Source, settings: PruneSettings, *, out: Path, repeats: int = 3
) -> dict[str, Any]:
    """Measure what raises leakage on a dataset, and recommend a method; the run folder is ``out``.

    An analysis that was interrupted resumes; a finished one returns its result.

    Parameters
    ----------
    source
        Data and network. The network is trained from fresh weights, even where it comes trained:
        no row is new to that one.
    settings
        How to train and prune; the defense is "base" or "none". Where training may stop early,
        the unpruned network does; every round then takes as many epochs as one takes on average
        that may, so that the variants differ in their data and not in how long they train on it.
    repeats
        Divisions of the rows, each with networks of its own; at least 2. Their spread tells of
        divisions and seeds; other rows may spread more.

    Raises
    ------
    OptionError
        On settings that cannot be analyzed, or when ``out`` holds something else.
    DataError
        When there are too few training rows, or the dataset is missing or malformed.
    """
    _check(settings, repeats)
    case = open_case(source)
    table, split = case.made.table, case.made.split
    if len(split.train) < LEAST_ROWS:
        raise DataError(
            f"an analysis takes at least {LEAST_ROWS} training rows; {source.dataset} leaves "
            f"{len(split.train)}"
        )
    run = open_run(out, "analyse", {**case.settings, **asdict(settings), "repeats": repeats})
    if run.result is not None:
        return run.result
    started = time.perf_counter()
    found = measure(
        case.architecture.build,
        dense(table, split.train),
        dense(table, split.dev),
        settings=settings,
        seed=derive(source.seed, "analysis"),
        repeats=repeats,
        stages=run,
    )
    return run.finish(
        {
            "dataset": source.dataset,
            "model": describe(case.architecture)["architecture"],
            "defense": settings.defense,
            "pruner": settings.pruner,
            "sparsity": settings.sparsity,
            "rounds": settings.rounds,
            "repeats": repeats,
            **found,
            "seconds": time.perf_counter() - started,
            "seed": source.seed,
            "versions": run.record["versions"],
        }
    )


def measure(
    build: Build,
    train: Dense,
    dev: Dense,
    *,
    settings: PruneSettings,
    seed: int,
    repeats: int,
    stages: Stages,
) -> dict[str, Any]:
    """Train and attack all variants of all repeats; return what there is to conclude.

    Beside `privet.jobs.scenarios.conclude`: the epochs of a round, the sizes of both sides, and
    each variant's accuracy on the nonmembers.
    """
    cases = [
        Repeat(
            build=build,
            train=train,
            dev=dev,
            division=divide(len(train[1]), derive(seed, "division", number)),
            settings=settings,
            seed=derive(seed, "repeat", number),
            stages=_Part(stages, f"repeat-{number}"),
        )
        for number in range(repeats)
    ]
    epochs = cases[0].usual_epochs()
    found = [case.variants(epochs) for case in track(cases, "divisions of the rows")]
    concluded = conclude(np.array([[variant["auc"] for variant in one] for one in found]))
    accuracies = np.array([[variant["accuracy"] for variant in one] for one in found])
    for place, variant in enumerate(concluded["variants"]):
        variant["accuracy"] = asdict(mean(accuracies[:, place]))
    return {
        "epochs": epochs,
        "members": len(cases[0].division.members),
        "nonmembers": len(cases[0].division.nonmembers),
        **concluded,
    }


def _check(settings: PruneSettings, repeats: int) -> None:
    """Raise `OptionError` for what cannot be analyzed."""
    if settings.defense not in UNDEFENDED:
        raise OptionError(
            f"an analysis measures what happens without a defense: leave out {settings.defense}, "
            f"or choose from {', '.join(UNDEFENDED)}"
        )
    if settings.rounds < 2:
        raise OptionError(f"an analysis takes at least 2 rounds of pruning; got {settings.rounds}")
    if settings.rewind is not None:
        raise OptionError(f"an analysis does not rewind weights; got rewind {settings.rewind}")
    if settings.dense_epochs < 1:
        raise OptionError("an analysis trains its own networks: dense_epochs must be at least 1")
    if repeats < 2:
        raise OptionError(
            f"an analysis takes at least 2 repeats, to know their spread; got {repeats}"
        )
    estimate_of(settings)


@dataclass(frozen=True)
class _Part:
    """The stages of a part of a run, their names behind a prefix."""

    whole: Stages
    prefix: str

    def recall(self, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        return self.whole.recall(f"{self.prefix}-{name}")

    def keep(self, name: str, record: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        self.whole.keep(f"{self.prefix}-{name}", record, tensors)
