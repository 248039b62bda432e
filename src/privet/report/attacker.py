"""What the attacker of an audit knew, in words: what a reader must know to trust its figures."""

from collections.abc import Mapping
from typing import Any

from privet.report import wording

Document = Mapping[str, Any]


def knowledge(audit: Document) -> list[str]:
    """Return sentences on shadow models, adaptive and online or not, and on attacks not run.

    Older documents do not state all of it; what is not stated is not mentioned.
    """
    return [*_shadows(audit), *_skipped(audit)]


def _shadows(audit: Document) -> list[str]:
    count = wording.as_number(audit.get("shadows"))
    if count == 0:
        return ["There were no shadow models to learn from, so more may leak than shown."]
    models = "shadow models" if count is None else f"{wording.count(count)} shadow models"
    sentences = []
    if audit.get("adaptive") is True:
        sentences.append(f"Adaptive: {models} were trained under the target's own defense.")
    elif audit.get("adaptive") is False:
        sentences.append(
            f"Not adaptive: {models} were trained without the target's defense, so more may leak "
            "than shown."
        )
    elif count is not None:
        sentences.append(f"There were {models}; how they were made is not stated.")
    if audit.get("online") is True:
        sentences.append("Online: some shadow models trained on audited samples, too.")
    elif audit.get("online") is False:
        sentences.append(
            "Offline: no shadow model trained on an audited sample; an attacker who owns the "
            "samples may find more."
        )
    return sentences


def _skipped(audit: Document) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for attack, lacked in (audit.get("skipped") or {}).items():
        by_reason.setdefault(str(lacked), []).append(str(attack))
    if not by_reason:
        return []
    listed = "; ".join(f"{', '.join(names)} (lacks {why})" for why, names in by_reason.items())
    return [f"Not run: {listed}."]
