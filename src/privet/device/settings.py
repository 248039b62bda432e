"""How the searches run on the device, as a bundle says."""

import sys
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from privet.device.network import Float64
from privet.device.rules import POLICIES, Policy, Rules
from privet.errors import OptionError

Mechanism = Literal["targets", "answers"]
MOST_STEPS = 1000  # of a search or a round, lest a hostile bundle keep a device busy
MOST_STOPS = 64  # on a way whose every stop is kept, lest a hostile bundle ask for all memory


@dataclass(frozen=True)
class Settings:
    """How the search runs on the device.

    Parameters
    ----------
    max_steps
        Most steps a search takes: 100 a (record, target) pair by default in attribute bundles, 299
        a round in membership bundles. With the mechanism of answers exactly so many are walked, 8
        by default and 64 at most.
    margins
        Attribute bundles: (budget, margin) points in ascending order of budget; the margin of
        `attribute.search` is read off the line through them. None: margin 0.
    policy, low, high
        Attribute bundles: the `Rules` that hold where a person says nothing else, such as which
        values the features can take; ``low`` and ``high`` are one number, or one a feature.
    never
        Attribute bundles: the features that no release changes, ascending; see `Rules`.
    mechanism, temperature, leak
        Attribute bundles: whether a candidate counts by the *target* that the defense model says
        (`privet.device.mechanism`, the paper's) or by the *answers* that attackers are believed
        to give (`privet.device.answers`), and how those are reckoned from the defense model's
        (`privet.device.paths.Paths.answers`).

    Raises
    ------
    OptionError
        On numbers of the wrong kind or out of range.
    """

    max_steps: int | None = None
    margins: tuple[tuple[float, float], ...] = ()
    policy: Policy = "modify_add"
    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 1.0
    never: tuple[int, ...] = ()
    mechanism: Mechanism = "targets"
    temperature: float = 1.0
    leak: float = 0.0

    def __post_init__(self) -> None:
        steps = self.max_steps
        if steps is not None and (type(steps) is not int or not 1 <= steps <= MOST_STEPS):
            raise OptionError(f"max_steps must be in 1..{MOST_STEPS}; got {repr(steps)[:40]}")
        if any(len(p) != 2 or not all(_is_amount(x) for x in p) for p in self.margins):
            raise OptionError(f"margins must be (budget, margin) pairs; got {self.margins!r}")
        budgets = [budget for budget, _ in self.margins]
        if sorted(set(budgets)) != budgets:
            raise OptionError(f"margins must ascend by budget; got budgets {budgets}")
        for name, value in (("low", self.low), ("high", self.high)):
            each = value if isinstance(value, tuple) else (value,)
            if not each or not all(_is_amount(x) for x in each):
                raise OptionError(f"{name} must be numbers in 0..1; got {str(value)[:60]}")
        if self.policy not in POLICIES:
            raise OptionError(f"policy must be one of {', '.join(POLICIES)}; got {self.policy!r}")
        ascending = list(self.never) == sorted(set(self.never))
        if not ascending or any(type(x) is not int or not 0 <= x < 2**31 for x in self.never):
            raise OptionError("never must be feature numbers, ascending, each once")
        if self.mechanism not in get_args(Mechanism):
            raise OptionError(f"mechanism must be targets or answers; got {self.mechanism!r}")
        if self.mechanism == "answers" and (steps or 0) > MOST_STOPS:
            raise OptionError(
                f"max_steps must be at most {MOST_STOPS} where every step counts; got {steps}"
            )
        if not (_is_amount(self.temperature) and self.temperature > 0):
            raise OptionError(f"temperature must be above 0; got {self.temperature!r}")
        if not (_is_amount(self.leak) and self.leak < 1):
            raise OptionError(f"leak must lie in [0, 1); got {self.leak!r}")
        answers = self.mechanism == "answers"
        if answers and self.margins:
            raise OptionError("margins are for the mechanism of targets; that of answers has none")
        if not answers and (self.temperature, self.leak) != (1.0, 0.0):
            raise OptionError("temperature and leak are for the mechanism of answers")
        self.rules.legal_values(max(_length(self.low), _length(self.high)))

    @property
    def unrestricted(self) -> bool:
        """Whether nothing is said that only an attribute bundle can have."""
        return replace(self, max_steps=None) == Settings()

    @property
    def rules(self) -> Rules:
        """The rules that hold where a person says nothing else."""
        return Rules(policy=self.policy, low=self.low, high=self.high, never=self.never)

    def margin(self, budget: ArrayLike) -> Float64:
        """Return the margin to search with at ``budget``, in its shape."""
        budget = np.asarray(budget, dtype=np.float64)
        if not self.margins:
            return np.zeros_like(budget)
        budgets, margins = zip(*self.margins, strict=True)
        return np.asarray(np.interp(budget, budgets, margins))


def _is_amount(value: object) -> bool:
    """Tell whether ``value`` is a finite number, not negative and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= sys.float_info.max


def _length(value: float | tuple[float, ...]) -> int:
    return len(value) if isinstance(value, tuple) else 1
