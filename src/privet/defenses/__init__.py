"""Training-time defenses: functions from a training setup to another one.

To add a defense: one file with a frozen dataclass that satisfies `Defense`, one row in
`DEFENSES` with its citation. The conformance suite then runs over it.
"""

from collections.abc import Mapping

from privet.defenses.base import Defense, Undefended
from privet.defenses.wemem import RMR, RSW, SWMR

__all__ = ["DEFENSES", "Defense"]

DEFENSES: Mapping[str, Defense] = {
    "none": Undefended(),
    "rsw": RSW(),
    "rmr": RMR(),
    "swmr": SWMR(),
}
"""Every defense by the name that the command line uses, with its published settings."""
