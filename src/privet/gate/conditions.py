"""Conditions: what may be asked of an audited run, and how it is written.

``lira:tpr@0.01 <= 0.05`` names an attack, a figure, a false positive rate and a bound.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from privet.errors import OptionError

Side = Literal["max", "min"]

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
ALLOWED = {"max": ("<=", "<"), "min": (">=", ">")}
EXAMPLES = {"max": "tpr@0.01<=0.05", "min": "accuracy>=0.6"}
AT_FPR = ("tpr", "tpr_high", "tpr_band_high")
LEAKS = ("balanced_accuracy", "auc", *AT_FPR)
"""Figures that each attack has."""
KEPT = ("accuracy", "train_accuracy", "gap", "sparsity")
"""Figures of the model itself."""

_TEXT = re.compile(r"([^<>=]*)([<>=]+)(.*)", re.DOTALL)
_NAME = re.compile(r"(?:([^:@]+):)?([^:@]+)(?:@([^:@]+))?")


@dataclass(frozen=True)
class Condition:
    """One condition; make it with `parse`.

    Parameters
    ----------
    figure
        One of `LEAKS`, or of `KEPT`.
    operator, bound
        How the figure is compared, and with which fraction in [0, 1].
    attack
        The one attack that is meant; None is the highest over all of the audit.
    fpr
        The false positive rate at which a TPR is read off, in (0, 1).
    """

    figure: str
    operator: str
    bound: float
    attack: str | None = None
    fpr: float | None = None

    @property
    def name(self) -> str:
        """The figure as it is written, e.g. ``lira:tpr@0.01``."""
        attack = "" if self.attack is None else f"{self.attack}:"
        return f"{attack}{self.figure}" + ("" if self.fpr is None else f"@{self.fpr}")

    def holds(self, value: float) -> bool:
        """Say whether ``value`` is on the right side of the bound."""
        return OPERATORS[self.operator](value, self.bound)

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.bound}"


def parse(text: str, side: Side) -> Condition:
    """Read one condition; blanks do not matter.

    Raises
    ------
    OptionError
        On a missing or wrong operator, an unknown name, or a bound outside [0, 1].
    """
    advice = f'--{side} takes e.g. "{EXAMPLES[side]}"'
    signs = " or ".join(ALLOWED[side])
    parts = _TEXT.fullmatch(text)
    if parts is None:
        raise OptionError(
            f"{advice}; {text!r} has no {signs}: put the condition in quotes, or the shell takes "
            f"< and > for files"
        )
    name, sign, bound = (part.strip() for part in parts.groups())
    if sign not in ALLOWED[side]:
        raise OptionError(f"{advice}, with {signs}; got {sign!r} in {text!r}")
    try:
        attack, figure, fpr = _take_apart(name)
    except OptionError as error:
        raise OptionError(f"{advice}; {error} in {text!r}") from None
    limit = fraction(bound)
    if limit is None:
        raise OptionError(f"{advice}; the bound {bound!r} is no number in 0..1 in {text!r}")
    return Condition(figure, sign, limit, attack, fpr)


def fraction(text: str) -> float | None:
    """Return the number in [0, 1] that ``text`` spells, None if it spells none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _take_apart(name: str) -> tuple[str | None, str, float | None]:
    """Return attack, figure and FPR of ``ATTACK:figure@FPR``."""
    match = _NAME.fullmatch(name)
    attack, figure, at = (part and part.strip() for part in match.groups()) if match else ("",) * 3
    known = figure in LEAKS or (attack is None and figure in KEPT)
    if not known or attack == "" or not name.isprintable():
        leaks = ", ".join(f"{each}@FPR" if each in AT_FPR else each for each in LEAKS)
        raise OptionError(
            f"{name!r} is no figure (choose from {leaks}, ATTACK:figure for one attack, "
            f"{', '.join(KEPT)})"
        )
    if (at is not None) != (figure in AT_FPR):
        right = figure if at is not None else f"{figure}@0.01"
        raise OptionError(
            f"{name!r} is wrong: {', '.join(AT_FPR)}, and only they, take @FPR; write {right}"
        )
    if at is None:
        return attack, figure, None
    fpr = fraction(at)
    if fpr is None or not 0 < fpr < 1:
        raise OptionError(f"the FPR {at!r} is no number between 0 and 1")
    return attack, figure, fpr
