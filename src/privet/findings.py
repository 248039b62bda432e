"""From evidence to findings: run attacks, judge them, and write down what they found.

No torch: evidence recorded elsewhere is audited just as well.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from privet.attacks import ATTACKS, NEEDS, PACKAGES, Attack, Verdict
from privet.errors import EvidenceError, OptionError
from privet.groups import CANARIES, CLASS, Grouping
from privet.metrics import FALSE_POSITIVE_RATES, Judgement, Rate, judge
from privet.progress import track
from privet.seeds import generator
from privet.signals import BoolArray, Evidence, FloatArray, IntArray

Finding = dict[str, Any]
ROC_POINTS = 200
MOST_EXPOSED = 10


@dataclass(frozen=True, eq=False)
class _Truth:
    """What attacks do not see: who is a member; and how samples are grouped and called."""

    members: BoolArray
    groupings: Sequence[Grouping]
    samples: IntArray

    @property
    def ordinary(self) -> BoolArray:
        """Shape (samples,): all but planted canaries, which are judged apart."""
        planted = [each.group >= 0 for each in self.groupings if each.kind == CANARIES]
        return ~planted[0] if planted else np.ones(len(self.members), dtype=np.bool_)


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
    """Return the attacks that this evidence, on this machine, cannot support, and what they lack.

    What is lacking is said in words (`privet.attacks.NEEDS`).
    """
    there = evidence.holds | {name for name in PACKAGES if find_spec(name) is not None}
    return {
        name: ", ".join(words for need, words in NEEDS.items() if need in attack.needs - there)
        for name, attack in attacks.items()
        if not attack.needs <= there
    }


def find(
    evidence: Evidence,
    members: BoolArray,
    *,
    attacks: Mapping[str, Attack] | Iterable[str] | str = "all",
    seed: int = 0,
    groupings: Sequence[Grouping] = (),
    samples: IntArray | None = None,
    skipped: dict[str, str] | None = None,
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
    groupings
        Ways of dividing the audit pool (`privet.groups`), one of a kind. Each group is judged by
        itself: its members against its own nonmembers, at thresholds of its own. Canaries are
        judged in their group alone: they are no one's data.
    samples
        Shape (audit samples,), integers: what to call each sample, such as its row in the data
        set; its position in the audit pool by default.
    skipped
        Where to note attacks that fail for want of evidence, with the reason, and go on; without
        it they raise.

    Returns
    -------
    One JSON-ready dictionary an attack: its name and paper, balanced accuracy (None for an
    attack that only ranks), AUC and TPR at FPR with 95 % intervals (see `privet.metrics.Rate`),
    sample counts, a thinned ROC curve, and wall seconds of the attack. Then, under
    ``"breakdowns"``, for each kind of grouping the same figures of every group that holds samples,
    None where one side is empty; by class without TPR at FPR, since classes are many and small.
    And under ``"most_exposed"`` the members with the highest scores, each with the share of
    nonmembers that score at least as high (``"fpr"``), ties by position in the pool.

    Raises
    ------
    EvidenceError
        When shapes disagree, two groupings are of one kind, or a named attack lacks evidence.
    """
    pool = evidence.target.labels.shape
    samples = np.arange(*pool) if samples is None else samples
    truth = _Truth(members, groupings, samples)
    _check(truth, pool)
    chosen = _supported(attacks, evidence)
    found = []
    for name, attack in track(chosen.items(), "attacks", total=len(chosen)):
        started = time.perf_counter()
        try:
            verdict = attack.attack(evidence, generator(seed, "attack", name))
        except EvidenceError as error:
            if skipped is None:
                raise
            skipped[name] = str(error)
            continue
        seconds = time.perf_counter() - started
        figures = _judged(verdict, truth)
        found.append({"attack": name, "paper": attack.paper, **figures, "seconds": seconds})
    return found


def _check(truth: _Truth, pool: tuple[int, ...]) -> None:
    arrays = {"membership": truth.members, "samples": truth.samples}
    arrays |= {f"groups by {grouping.kind}": grouping.group for grouping in truth.groupings}
    for name, array in arrays.items():
        if array.shape != pool:
            raise EvidenceError(f"{name} must have shape {pool}; got {array.shape}")
    if not np.issubdtype(truth.samples.dtype, np.integer):
        raise EvidenceError(f"samples are called by integers; got {truth.samples.dtype}")
    kinds = [grouping.kind for grouping in truth.groupings]
    if len(set(kinds)) < len(kinds):
        raise EvidenceError(f"groupings must differ in kind; got {', '.join(kinds)}")


def _supported(
    attacks: Mapping[str, Attack] | Iterable[str] | str, evidence: Evidence
) -> Mapping[str, Attack]:
    chosen = attacks if isinstance(attacks, Mapping) else choose_attacks(attacks)
    lacking = unsupported(chosen, evidence)
    if lacking and attacks != "all":
        name, what = next(iter(lacking.items()))
        raise EvidenceError(f"the attack {name!r} needs {what}, which is not there")
    return {name: attack for name, attack in chosen.items() if name not in lacking}


def _judged(verdict: Verdict, truth: _Truth) -> Finding:
    judgement = _judge(verdict, truth.members, truth.ordinary)
    fpr, tpr = judgement.roc
    # Spread evenly over the logarithm, where low false positive rates have their room.
    ticks = np.geomspace(1, len(fpr), num=min(ROC_POINTS, len(fpr)))
    thinned = np.unique(np.round(ticks).astype(int) - 1)
    return {
        **_figures(judgement),
        "tpr_at_fpr": _rates(judgement.tpr_at_fpr),
        "members": judgement.members,
        "nonmembers": judgement.nonmembers,
        "roc": {"fpr": fpr[thinned].tolist(), "tpr": tpr[thinned].tolist()},
        "breakdowns": {
            grouping.kind: _broken_down(verdict, truth, grouping) for grouping in truth.groupings
        },
        "most_exposed": _most_exposed(verdict.scores, truth),
    }


def _figures(judgement: Judgement | None) -> Finding:
    low, high = (None, None) if judgement is None else judgement.auc_interval
    return {
        "balanced_accuracy": None if judgement is None else judgement.balanced_accuracy,
        "auc": None if judgement is None else judgement.auc,
        "auc_low": low,
        "auc_high": high,
    }


def _rates(rates: Mapping[float, Rate]) -> Finding:
    return {str(alpha): asdict(rate) for alpha, rate in rates.items()}


def _judge(
    verdict: Verdict,
    members: BoolArray,
    inside: BoolArray,
    levels: Sequence[float] = FALSE_POSITIVE_RATES,
) -> Judgement:
    decisions = verdict.decisions
    return judge(
        verdict.scores[inside],
        members[inside],
        decisions=None if decisions is None else decisions[inside],
        false_positive_rates=levels,
    )


def _broken_down(verdict: Verdict, truth: _Truth, grouping: Grouping) -> list[Finding]:
    levels = () if grouping.kind == CLASS else FALSE_POSITIVE_RATES
    entries = []
    for name, group in grouping.each():
        inside = group if grouping.kind == CANARIES else group & truth.ordinary
        among, judgement = truth.members[inside], None
        if not among.size:
            continue
        if among.any() and not among.all():
            judgement = _judge(verdict, truth.members, inside, levels)
        entry = {
            "name": name,
            "members": int(among.sum()),
            "nonmembers": int((~among).sum()),
            **_figures(judgement),
        }
        if levels:
            entry["tpr_at_fpr"] = None if judgement is None else _rates(judgement.tpr_at_fpr)
        entries.append(entry)
    return entries


def _most_exposed(scores: FloatArray, truth: _Truth) -> list[Finding]:
    inside = np.flatnonzero(truth.members & truth.ordinary)
    top = inside[np.argsort(-scores[inside], kind="stable")[:MOST_EXPOSED]]
    others = np.sort(scores[~truth.members & truth.ordinary])
    fpr = (len(others) - np.searchsorted(others, scores[top])) / len(others)
    return [
        {"sample": int(sample), "fpr": float(share)}
        for sample, share in zip(truth.samples[top], fpr, strict=True)
    ]
