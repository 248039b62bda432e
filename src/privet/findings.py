"""From evidence to findings: run attacks, judge them, and write down what they found.

No torch: evidence recorded elsewhere is audited just as well.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from privet.attacks import ATTACKS, NEEDS, Attack
from privet.errors import EvidenceError, OptionError
from privet.metrics import Judgement, judge
from privet.progress import track
from privet.seeds import generator
from privet.signals import BoolArray, Evidence

Finding = dict[str, Any]
ROC_POINTS = 200


def choose_attacks(names: Iterable[str] | str) -> Mapping[str, Attack]:
    """Return attacks by name; ``"all"`` is every one there is.

    Raises
    ------
    OptionError
        On a name that is not in `privet.attacks.ATTACKS`, or no name at all.
    """
    wanted = list(ATTACKS) if names == "all" else [names] if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if name not in ATTACKS]
    if unknown or not wanted:
        raise OptionError(
            f"unknown attack {', '.join(map(repr, unknown)) or 'list (it is empty)'}; "
            f"choose from {', '.join(ATTACKS)} or all"
        )
    return {name: ATTACKS[name] for name in wanted}


def unsupported(attacks: Mapping[str, Attack], evidence: Evidence) -> dict[str, str]:
    """Return the attacks that ``evidence`` cannot support, with what each lacks in words."""
    return {
        name: ", ".join(NEEDS[need] for need in NEEDS if need in attack.needs - evidence.holds)
        for name, attack in attacks.items()
        if not attack.needs <= evidence.holds
    }


def find(
    evidence: Evidence,
    members: BoolArray,
    *,
    attacks: Mapping[str, Attack] | Iterable[str] | str = "all",
    seed: int = 0,
) -> list[Finding]:
    """Run ``attacks`` on ``evidence`` and judge each against the truth.

    Parameters
    ----------
    members
        Shape (audit samples,), bool. No attack sees it.
    attacks
        Attacks by name: names from `privet.attacks.ATTACKS`, or attacks of your own. ``"all"``
        is every attack that the evidence supports (see `unsupported`).
    seed
        Each attack gets a stream of its own, so the findings do not depend on their order.

    Returns
    -------
    One JSON-ready dictionary an attack: its name and paper, balanced accuracy (None for an
    attack that only ranks), AUC, TPR at FPR with 95 % intervals, sample counts, wall seconds,
    and a thinned ROC curve.
    """
    if members.shape != evidence.target.labels.shape:
        raise EvidenceError(
            f"membership must have shape {evidence.target.labels.shape}; got {members.shape}"
        )
    chosen = attacks if isinstance(attacks, Mapping) else choose_attacks(attacks)
    lacking = unsupported(chosen, evidence)
    if lacking and attacks != "all":
        name, what = next(iter(lacking.items()))
        raise EvidenceError(f"the attack {name!r} needs {what}; the evidence has none")
    chosen = {name: attack for name, attack in chosen.items() if name not in lacking}
    found = []
    for name, attack in track(chosen.items(), "attacks", total=len(chosen)):
        started = time.perf_counter()
        verdict = attack.attack(evidence, generator(seed, "attack", name))
        judgement = judge(verdict.scores, members, decisions=verdict.decisions)
        seconds = time.perf_counter() - started
        found.append(
            {"attack": name, "paper": attack.paper, **_figures(judgement), "seconds": seconds}
        )
    return found


def _figures(judgement: Judgement) -> Finding:
    fpr, tpr = judgement.roc
    # Spread evenly over the logarithm, where low false positive rates have their room.
    ticks = np.geomspace(1, len(fpr), num=min(ROC_POINTS, len(fpr)))
    thinned = np.unique(np.round(ticks).astype(int) - 1)
    return {
        "balanced_accuracy": judgement.balanced_accuracy,
        "auc": judgement.auc,
        "tpr_at_fpr": {
            str(alpha): {
                "tpr": rate.tpr,
                "low": rate.low,
                "high": rate.high,
                "resolved": rate.resolved,
            }
            for alpha, rate in judgement.tpr_at_fpr.items()
        },
        "members": judgement.members,
        "nonmembers": judgement.nonmembers,
        "roc": {"fpr": fpr[thinned].tolist(), "tpr": tpr[thinned].tolist()},
    }
