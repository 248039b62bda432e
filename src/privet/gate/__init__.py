"""The gate: conditions on what a run leaks and how accurate it is, judged from its JSON alone.

What cannot be judged does not pass: a figure that is missing, or that the audit has too few
nonmembers to resolve, fails its condition and says why. Nothing here imports torch.
"""

from privet.gate.audits import read_audit
from privet.gate.conditions import Condition, parse
from privet.gate.verdicts import Outcome, judge, junit_xml

__all__ = ["Condition", "Outcome", "judge", "junit_xml", "parse", "read_audit"]
