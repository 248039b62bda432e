"""What `privet tune` may choose from: one row a defense in `SPACES`.

To let a search try more, add an option or a setting to a row; nothing else has to know. Each
entry has a published or default value, from which the search of that defense begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from privet.defenses import choose
from privet.errors import OptionError
from privet.jobs.settings import PruneSettings, recommended

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, beginning with ``first``; ``log``: evenly in decades."""

    low: float
    high: float
    first: float
    log: bool = False

    def ask(self, trial: "Trial", name: str) -> float | int:
        """Let a trial choose; whole numbers where both ends are."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of some values, beginning with the first."""

    values: tuple[Any, ...]

    @property
    def first(self) -> Any:
        """The published or default value."""
        return self.values[0]

    def ask(self, trial: "Trial", name: str) -> Any:
        """Let a trial choose."""
        return trial.suggest_categorical(name, self.values)


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
_LENGTH: Rows = {"rounds": Choice((5, 1)), "epochs": Range(5, 21, 21)}
# Published for Location: 15 and 1 of about 67 samples a class.
_WINDOW: Rows = {
    "width": Range(0.05, 1.0, 0.22, log=True),
    "stride": Range(0.005, 0.2, 0.015, log=True),
}
_ORDERS = ("low-to-high", "high-to-low")
# Published: a score of 0.6, which about half of Location's samples reach.
_RISK: Rows = {
    "threshold": Range(0.0, 0.95, 0.5),
    "risk_weight_decay": Range(0.01, 0.3, 0.1, log=True),
}

SPACES: Mapping[str, Space] = {
    "none": Space(settings=_LENGTH),
    "distill": Space(
        {"power": Range(0.2, 1.0, 0.4), "hard": Range(0.0, 0.3, 0.06)},
        {
            "weight_decay": Choice((3e-3, 1e-3, 1e-2)),
            "dense_epochs": Range(6, 30, 12),
            "epochs": Range(6, 30, 12),
        },
    ),
    "base": Space({"weight_decay": Range(5e-4, 0.1, 5e-4, log=True)}, {**_DECAY, **_LENGTH}),
    "rmr": Space(_RISK, _DECAY, {"quantile": True}),
    "rsw": Space({**_WINDOW, "order": Choice(_ORDERS)}, _DECAY, {"relative": True}),
    "swmr": Space(
        {**_WINDOW, **_RISK, "order": Choice(_ORDERS[::-1])},
        _DECAY,
        {"relative": True, "quantile": True},
    ),
    "hamp": Space(
        {
            "entropy_threshold": Range(0.1, 0.95, 0.5),
            "entropy_weight": Range(0.003, 0.3, 0.03, log=True),
        },
        _DECAY,
    ),
    "relaxloss": Space(
        {"alpha": Range(0.1, 3.0, 1.0, log=True), "whole": Choice((False, True))}, _DECAY
    ),
    "ppb": Space({"weight": Range(1.0, 16.0, 4.0, log=True)}, {**_DECAY, **_LENGTH}),
    "radd": Space(
        {
            "threshold": Range(0.0, 0.9, 0.5),
            "exposure": Range(0.1, 1.0, 0.5),
            "temperature": Range(1.0, 8.0, 4.0, log=True),
            "entropy": Range(0.01, 1.0, 0.1, log=True),
        },
        _DECAY,
    ),
    "adv": Space({"weight": Range(1.0, 8.0, 2.0, log=True)}, {**_DECAY, **_LENGTH}),
    "dp": Space({"noise_multiplier": Range(0.01, 1.0, 0.1, log=True)}, _LENGTH),
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
    return {"defense": defense, **{name: row.first for name, row in named.items()}}


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
    space = SPACES[defense]
    return {
        **{_option(defense, key): row for key, row in space.options.items()},
        **{_setting(defense, key): row for key, row in space.settings.items() if key not in fixed},
    }


def _option(defense: str, name: str) -> str:
    return f"{defense}.options.{name}"


def _setting(defense: str, name: str) -> str:
    return f"{defense}.settings.{name}"
