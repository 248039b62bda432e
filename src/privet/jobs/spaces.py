"""What `privet tune` may choose from: one row a defense in `SPACES`.

To let a search try more, add an option or a setting to a row; nothing else has to know. The
search of a defense begins with its defaults, wherever the row does not say otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from privet.defenses import DEFENSES, choose
from privet.errors import OptionError
from privet.jobs.settings import PruneSettings, recommended

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, and on to ``usual`` where that lies beyond.

    Parameters
    ----------
    low, high
        Whole numbers where both ends are.
    log
        Whether decades count alike.
    usual
        Where the search begins; the default of the defense or the run unless given.
    """

    low: float
    high: float
    log: bool = False
    usual: float | None = None

    def ask(self, trial: "Trial", name: str) -> float | int:
        """Let a trial choose; ``usual`` is known."""
        low, high = min(self.low, self._usual), max(self.high, self._usual)
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, log=self.log)
        return trial.suggest_float(name, low, high, log=self.log)

    @property
    def _usual(self) -> float:
        return self.low if self.usual is None else self.usual


@dataclass(frozen=True)
class Choice:
    """One of some values, or ``usual``, as in `Range`."""

    values: tuple[Any, ...]
    usual: Any = None

    def ask(self, trial: "Trial", name: str) -> Any:
        """Let a trial choose."""
        return trial.suggest_categorical(name, list(dict.fromkeys([*self.values, self.usual])))


Rows = Mapping[str, Range | Choice]


@dataclass(frozen=True)
class Space:
    """What a search may choose for one defense.

    Parameters
    ----------
    options
        Of the defense.
    settings
        Of the run (`PruneSettings`), as changes to what the defense was made for.
    fixed
        Options that every trial has.
    """

    options: Rows = field(default_factory=dict)
    settings: Rows = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


# Few values, not a range: trials with equal training before pruning share it.
_DECAY: Rows = {"weight_decay": Choice((5e-4, 2e-3, 5e-3, 1e-2))}
_LENGTH: Rows = {"rounds": Choice((1, 5)), "epochs": Range(5, 21)}
# Published for Location: 15 and 1 of about 67 samples a class.
_WINDOW: Rows = {
    "width": Range(0.05, 1.0, log=True, usual=0.22),
    "stride": Range(0.005, 0.2, log=True, usual=0.015),
}
_ORDER: Rows = {"order": Choice(("low-to-high", "high-to-low"))}
# Published: a score of 0.6, which about half of Location's samples reach.
_RISK: Rows = {
    "threshold": Range(0.0, 0.95, usual=0.5),
    "risk_weight_decay": Range(0.01, 0.3, log=True),
}

SPACES: Mapping[str, Space] = {
    "none": Space(settings=_LENGTH),
    # Not its `hard`: what labels in the targets leak, calibrated attacks find, and those that a
    # search can afford do not.
    "distill": Space(
        {"power": Range(0.2, 1.0)},
        {
            "weight_decay": Choice((3e-4, 1e-3, 3e-3, 1e-2)),
            "dense_epochs": Range(6, 30),
            "epochs": Range(6, 30),
        },
    ),
    "base": Space({"weight_decay": Range(5e-4, 0.1, log=True)}, {**_DECAY, **_LENGTH}),
    "rmr": Space(_RISK, _DECAY, {"quantile": True}),
    "rsw": Space({**_WINDOW, **_ORDER}, _DECAY, {"relative": True}),
    "swmr": Space(
        {**_WINDOW, **_RISK, **_ORDER},
        _DECAY,
        {"relative": True, "quantile": True},
    ),
    "hamp": Space(
        {
            "entropy_threshold": Range(0.1, 0.95),
            "entropy_weight": Range(0.003, 0.3, log=True),
        },
        _DECAY,
    ),
    "relaxloss": Space(
        {"alpha": Range(0.1, 3.0, log=True), "whole": Choice((False, True))}, _DECAY
    ),
    "ppb": Space({"weight": Range(1.0, 16.0, log=True)}, {**_DECAY, **_LENGTH}),
    "radd": Space(
        {
            "threshold": Range(0.0, 0.9),
            "exposure": Range(0.1, 1.0),
            "temperature": Range(1.0, 8.0, log=True),
            "entropy": Range(0.01, 1.0, log=True),
        },
        _DECAY,
    ),
    "adv": Space({"weight": Range(1.0, 8.0, log=True)}, {**_DECAY, **_LENGTH}),
    "dp": Space({"noise_multiplier": Range(0.01, 1.0, log=True)}, _LENGTH),
}
"""Every defense that can be searched; the most promising and the plainest come first.

Windows are fractions of a class and thresholds are quantiles, since bare ones do not carry from
one data set to another; so WeMem's searches begin with what its published settings amount to on
the data set that they were published for.
"""

SEARCHED = tuple(name for name in SPACES if name != "dp")
"""The defenses of a search that names none: all but dp, twenty times as slow as the others."""


@dataclass(frozen=True)
class Candidate:
    """A defense with its options, and changes to the run that it was made for."""

    defense: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]

    def complete(self, fixed: Mapping[str, Any], *, trained: bool) -> PruneSettings:
        """Return all settings of a run.

        Parameters
        ----------
        fixed
            Settings that hold whatever the candidate says.
        trained
            Whether the network comes trained: it then trains before pruning only under a defense
            that shapes all of training.

        Raises
        ------
        OptionError
            When the settings do not go together.
        """
        untouched = trained and not choose(self.defense, self.options).whole
        start = {"dense_epochs": 0} if untouched else {}
        return recommended(self.defense, self.options, **{**start, **self.settings, **fixed})


def suggest(trial: "Trial", defenses: Sequence[str], fixed: Mapping[str, Any]) -> Candidate:
    """Let a trial choose a defense, its options, and the settings that are not ``fixed``."""
    defense = trial.suggest_categorical("defense", list(defenses))
    space = SPACES[defense]
    chosen = {name: row.ask(trial, name) for name, row in _named(defense, fixed).items()}
    return Candidate(
        defense,
        {**space.fixed, **{key: chosen[_option(defense, key)] for key in space.options}},
        {key: chosen[_setting(defense, key)] for key in space.settings if key not in fixed},
    )


def first(defense: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trial chooses that begins the search of a defense."""
    named = _named(defense, fixed)
    return {"defense": defense, **{name: row.usual for name, row in named.items()}}


def check(defenses: Sequence[str]) -> None:
    """Raise `OptionError` unless the defenses are some that can be searched, each named once."""
    for name in defenses:
        if name not in SPACES:
            raise OptionError(f"cannot search defense {name!r}; choose from {', '.join(SPACES)}")
    if not defenses or len(set(defenses)) < len(defenses):
        raise OptionError(
            f"a search takes one or more defenses, each once; got {', '.join(defenses) or 'none'}"
        )


def _named(defense: str, fixed: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """Return the rows that are not fixed by the names of Optuna's parameters, ``usual`` known."""
    space, run = SPACES[defense], recommended(defense)
    rows = {
        _option(defense, name): (row, getattr(DEFENSES[defense], name))
        for name, row in space.options.items()
    }
    for name, row in space.settings.items():
        if name not in fixed:
            rows[_setting(defense, name)] = row, getattr(run, name)
    return {
        name: row if row.usual is not None else replace(row, usual=default)
        for name, (row, default) in rows.items()
    }


def _option(defense: str, name: str) -> str:
    return f"{defense}.options.{name}"


def _setting(defense: str, name: str) -> str:
    return f"{defense}.settings.{name}"
