"""privet: prune deep networks without leaking whose data trained them.

Importing privet imports nothing heavy; each public name loads its module on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from privet.device import Bundle, load_bundle
    from privet.findings import find
    from privet.jobs.attribute_audit import audit_attribute
    from privet.jobs.audit import audit
    from privet.jobs.prune import PruneRun, prune
    from privet.jobs.settings import PruneSettings
    from privet.protected_classifier import ProtectedClassifier
    from privet.pruned_file import load_pruned
    from privet.signals import Evidence, Signals

__all__ = [
    "Bundle",
    "Evidence",
    "ProtectedClassifier",
    "PruneRun",
    "PruneSettings",
    "Signals",
    "audit",
    "audit_attribute",
    "find",
    "load_bundle",
    "load_pruned",
    "prune",
]

_HOME = {
    "Bundle": "privet.device",
    "Evidence": "privet.signals",
    "ProtectedClassifier": "privet.protected_classifier",
    "PruneRun": "privet.jobs.prune",
    "PruneSettings": "privet.jobs.settings",
    "Signals": "privet.signals",
    "audit": "privet.jobs.audit",
    "audit_attribute": "privet.jobs.attribute_audit",
    "find": "privet.findings",
    "load_bundle": "privet.device",
    "load_pruned": "privet.pruned_file",
    "prune": "privet.jobs.prune",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'privet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
