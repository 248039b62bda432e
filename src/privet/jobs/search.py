"""The search behind `privet tune`: trials of candidates, their Pareto front, and the pick.

An Optuna study with two objectives, development accuracy up and leakage down. It begins with every
defense's published or default settings and goes on where those say it pays.

Why no storage of Optuna's: a finished trial is a stage of the run, written atomically to run.json.
To resume, a fresh study is led through the finished trials again: trial n is sampled under a seed
of its own, from the trials before it, so it asks for what it asked for before, and the record
answers in place of training. A trial that was cut short leaves no trace to clean up, and keeps its
number. Journals and databases would each need a lock, and a rule for trials that died running.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.errors import DataError, OptionError
from privet.fit import Dense
from privet.jobs.inputs import joined
from privet.jobs.spaces import SEARCHED, Candidate, check, first, suggest
from privet.jobs.stages import Stages
from privet.jobs.trials import PARTS, Bench, Network, Outcome, resplits
from privet.progress import track
from privet.seeds import derive

if TYPE_CHECKING:
    from optuna import Study

MARGIN = 0.02
"""How much better in both objectives another trial must be for one to end after a re-split."""

Trial = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """How settings are searched for.

    Parameters
    ----------
    sparsity
        Fraction removed in the end, in [0, 1).
    trials
        How many candidates are tried, at least one.
    loss
        The rule of the pick: least leakage with at most this much development accuracy lost
        against the most accurate trial, in [0, 1). That trial is partly the luckiest of many, so
        the rule is stricter than it reads.
    defenses
        Which to choose among, in the order of their first trials (`privet.jobs.spaces.SPACES`).
    repeats
        Re-splits that each trial is measured on (`privet.jobs.trials.resplits`), 1 to 5.
    fixed
        Settings of `PruneSettings` that every trial has.
    """

    sparsity: float = 0.6
    trials: int = 30
    loss: float = 0.01
    defenses: tuple[str, ...] = SEARCHED
    repeats: int = 2
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.defenses)
        if self.trials < 1 or not 1 <= self.repeats <= PARTS:
            raise OptionError(
                f"a search takes at least one trial, and 1..{PARTS} re-splits; got {self.trials} "
                f"and {self.repeats}"
            )
        if not 0 <= self.loss < 1:
            raise OptionError(f"the accuracy to lose must lie in [0, 1); got {self.loss}")
        for name in ("defense", "defense_options", "sparsity"):
            if name in self.fixed:
                raise OptionError(f"a search chooses {name} otherwise; leave it out of fixed")
        Candidate("base", {}, {}).complete(self.all_fixed, trained=False)

    @property
    def all_fixed(self) -> dict[str, Any]:
        """What every trial has, sparsity included."""
        return {**self.fixed, "sparsity": self.sparsity}

    @property
    def rule(self) -> str:
        """How the pick is made, in words."""
        points = 100 * self.loss
        return (
            f"least leakage with at most {points:g} point{'' if points == 1 else 's'} of "
            f"development accuracy lost against the most accurate trial"
        )


def explore(
    network: Network,
    data: tuple[Dense, Dense],
    *,
    search: Search,
    seed: int,
    stages: Stages,
) -> dict[str, Any]:
    """Try candidates on the training and development samples; return all trials and the pick.

    Parameters
    ----------
    data
        The training and the development samples. No function below sees any others.
    stages
        Where finished trials are kept and taken up again.

    Raises
    ------
    OptionError
        When no trial could be finished; the message is the first one's.
    """
    train, dev = data
    splits = resplits(
        len(train[1]), len(dev[1]), trained=network.trained, repeats=search.repeats, seed=seed
    )
    bench = Bench(network, joined(train, dev), splits, derive(seed, "bench"))
    trials: list[Trial] = []
    with _quiet():
        study = _study()
        for _ in track(range(search.trials), "trials"):
            trials.append(_next(study, bench, trials, search=search, seed=seed, stages=stages))
    if all(trial["state"] == "failed" for trial in trials):
        raise OptionError(f"no trial could be finished: {trials[0]['reason']}")
    chosen = pick(trials, loss=search.loss)
    candidate = Candidate(chosen["defense"], chosen["options"], chosen["settings"])
    whole = candidate.complete(search.all_fixed, trained=network.trained)
    return {
        "sparsity": search.sparsity,
        "defenses": list(search.defenses),
        "fixed": dict(search.fixed),
        "loss": search.loss,
        "judged": [len(split.judged) for split in splits],
        "trials": trials,
        "front": [trial["number"] for trial in front(trials)],
        "pick": {**chosen, "settings": asdict(whole)},
        "rule": search.rule,
        "seconds": sum(trial["seconds"] for trial in trials),
    }


def pick(trials: Sequence[Trial], *, loss: float) -> Trial:
    """Return the trial that leaks least among those that lose at most ``loss`` of accuracy.

    Against the most accurate complete trial; among equals the more accurate, then the earlier.
    """
    complete = [trial for trial in trials if trial["state"] == "complete"]
    least = max(trial["dev_accuracy"] for trial in complete) - loss
    # A hair of slack: accuracies are rounded means.
    allowed = [trial for trial in complete if trial["dev_accuracy"] >= least - 1e-9]
    return min(allowed, key=lambda one: (one["leakage"], -one["dev_accuracy"], one["number"]))


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the complete trials that no other one beats in both objectives, by accuracy."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    undominated = [one for one in complete if not any(_beats(other, one) for other in complete)]
    return sorted(undominated, key=lambda one: (-one["dev_accuracy"], one["number"]))


def _beats(one: Mapping[str, Any], other: Mapping[str, Any], *, margin: float = 0.0) -> bool:
    """Say whether a trial is as good in both objectives, by a margin, and better in one."""
    gained = one["dev_accuracy"] - other["dev_accuracy"] - margin
    spared = other["leakage"] - one["leakage"] - margin
    return bool(gained >= 0 and spared >= 0 and (margin > 0 or gained + spared > 0))


def _next(
    study: "Study",
    bench: Bench,
    before: Sequence[Trial],
    *,
    search: Search,
    seed: int,
    stages: Stages,
) -> Trial:
    """Ask for the next candidate and measure it, unless its record is there; tell the study."""
    from optuna.trial import TrialState

    number = len(before)
    study.sampler = _sampler(derive(seed, "sampler", number))
    if number < len(search.defenses):
        study.enqueue_trial(first(search.defenses[number], search.fixed))
    asked = study.ask()
    candidate = suggest(asked, search.defenses, search.fixed)
    if (finished := stages.recall(f"trial-{number}")) is not None:
        trial: Trial = finished[0]
        if any(trial[key] != value for key, value in asdict(candidate).items()):
            raise DataError(
                f"trial {number} of this search was sampled by another version of privet or "
                f"optuna; search again in another folder"
            )
    else:
        trial = {
            "number": number,
            **asdict(candidate),
            **_measured(candidate, bench, before, search),
        }
        stages.keep(f"trial-{number}", trial, {})
    if trial["state"] == "complete":
        study.tell(asked, [trial["dev_accuracy"], trial["leakage"]])
    else:
        failed = trial["state"] == "failed"
        study.tell(asked, state=TrialState.FAIL if failed else TrialState.PRUNED)
    return trial


def _measured(
    candidate: Candidate, bench: Bench, before: Sequence[Trial], search: Search
) -> dict[str, Any]:
    """Return how a candidate does; one that was tried before is not tried again.

    A study of several objectives has no pruner, so the rule is our own: a trial ends after its
    first re-split if a complete one is better there by `MARGIN` in both objectives.
    """
    started = time.perf_counter()
    for trial in before:
        if all(trial[key] == value for key, value in asdict(candidate).items()):
            kept = ("state", "dev_accuracy", "leakage", "repeats", "reason")
            return {**{key: trial[key] for key in kept}, "seconds": 0.0}
    rivals = [trial["repeats"][0] for trial in before if trial["state"] == "complete"]
    outcomes: list[Outcome] = []
    state, reason = "complete", None
    try:
        settings = candidate.complete(search.all_fixed, trained=bench.network.trained)
        for number in range(len(bench.splits)):
            outcomes.append(bench.measure(settings, number))
            left = len(bench.splits) - len(outcomes)
            if left and any(_beats(one, asdict(outcomes[0]), margin=MARGIN) for one in rivals):
                state = "pruned"
                break
    except OptionError as error:
        state, reason, outcomes = "failed", str(error), []
    return {
        "state": state,
        "dev_accuracy": _mean([each.dev_accuracy for each in outcomes]),
        "leakage": _mean([each.leakage for each in outcomes]),
        "repeats": [asdict(each) for each in outcomes],
        "reason": reason,
        "seconds": time.perf_counter() - started,
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _study() -> "Study":
    import optuna

    return optuna.create_study(directions=["maximize", "minimize"])


def _sampler(seed: int) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed % 2**32, multivariate=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own messages off stderr inside the block."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
