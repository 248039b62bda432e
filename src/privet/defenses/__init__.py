"""Training-time defenses: functions from a training setup to another one.

To add a defense: one file with a frozen dataclass that satisfies `Defense`, one row in
`DEFENSES` with its citation. The conformance suite then runs over it.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from privet.defenses.adversarial import ADV
from privet.defenses.base import NEEDS, Base, Defense, Guarantees, Serves, Taught, Undefended
from privet.defenses.distill import Distill
from privet.defenses.dp import DP
from privet.defenses.hamp import HAMP
from privet.defenses.ppb import PPB
from privet.defenses.radd import RADD
from privet.defenses.relaxloss import RelaxLoss
from privet.defenses.wemem import RMR, RSW, SWMR
from privet.errors import OptionError

__all__ = ["DEFENSES", "NEEDS", "Defense", "Guarantees", "Serves", "Taught", "choose"]

DEFENSES: Mapping[str, Defense] = {
    "none": Undefended(),
    "base": Base(),
    "ppb": PPB(),
    "adv": ADV(),
    "dp": DP(),
    "relaxloss": RelaxLoss(),
    "hamp": HAMP(),
    "rsw": RSW(),
    "rmr": RMR(),
    "swmr": SWMR(),
    "radd": RADD(),
    "distill": Distill(),
}
"""Every defense by the name that the command line uses, with its defaults."""


def choose(name: str, options: Mapping[str, Any]) -> Defense:
    """Return a defense by name, with some of its defaults replaced.

    Raises
    ------
    OptionError
        On an unknown name, an option that the defense does not have, or a value of another type.
    """
    if name not in DEFENSES:
        raise OptionError(f"unknown defense {name!r}; choose from {', '.join(DEFENSES)}")
    defense = DEFENSES[name]
    known = asdict(defense)  # type: ignore[call-overload]
    for key, value in options.items():
        if key not in known:
            raise OptionError(
                f"defense {name} has no option {key!r}; it has {', '.join(known) or 'none'}"
            )
        wanted = type(known[key])
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise OptionError(
                f"option {key} of defense {name} takes {wanted.__name__}; got {value!r}"
            )
    return replace(defense, **options)  # type: ignore[type-var]
