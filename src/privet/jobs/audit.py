"""The audit of anything: a run, a model of any make, or signals recorded elsewhere.

    models -> shadows.py -> Evidence -> findings.py -> the report below

Importing this module imports no torch, and recorded signals are audited without it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.attacks import Attack
from privet.errors import OptionError
from privet.findings import choose_attacks, find, unsupported
from privet.groups import Grouping, by_class, by_quantile, estimated_memorization
from privet.jobs.stages import versions
from privet.signals import BoolArray, Evidence, IntArray

if TYPE_CHECKING:
    from privet.jobs.prune import PruneRun


@dataclass(frozen=True)
class Settings:
    """How an audit is made.

    Parameters
    ----------
    attacks
        Names from `privet.attacks.ATTACKS`, or ``"all"``: every attack that the evidence supports.
        An attack that fails for want of evidence is then noted as skipped.
    shadows
        Number of shadow models, at least one. Five tell a leak from none; attacks that judge each
        sample by itself grow stronger up to a hundred and more.
    adaptive
        Whether shadow models are made with the target's own defense, as an attacker who knows it
        would.
    online
        Whether shadow models also draw members from the audited samples, as the strongest attacker
        would who owns them and asks who was a member. Otherwise the attacker's own data is all.
    seed
        Fixes what shadow models train on, their weights, and the attacks.
    jobs
        Shadow models trained at the same time, one processor each.
    """

    attacks: Iterable[str] | str = "all"
    shadows: int = 5
    adaptive: bool = True
    online: bool = True
    seed: int = 0
    jobs: int = 1
    chosen: Mapping[str, Attack] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.shadows < 1 or self.jobs < 1:
            raise OptionError(
                f"shadows and jobs must be at least 1; got {self.shadows} and {self.jobs}"
            )
        # Read once: a generator of names could not be read again, and typos should cost nothing.
        object.__setattr__(self, "chosen", choose_attacks(self.attacks))
        online = [name for name, attack in self.chosen.items() if "online" in attack.needs]
        if online and not self.online and self.attacks != "all":
            raise OptionError(
                f"the attack {online[0]!r} needs shadow models that trained on audited samples; "
                f"leave out --offline, or use its offline variant"
            )

    @property
    def name(self) -> str:
        """What shadow models made this way are kept under."""
        made = ("online" if self.online else "offline", "" if self.adaptive else "-non-adaptive")
        return f"{''.join(made)}-seed-{self.seed}"

    @property
    def noisy(self) -> bool:
        """Whether an attack needs models to be asked about noisy inputs."""
        noise = {"sensitivity", "robustness"}
        return any(noise & set(attack.needs) for attack in self.chosen.values())

    @property
    def noise_is_needed(self) -> bool:
        """Whether such an attack was asked for by name, so that it cannot be skipped."""
        return self.noisy and self.attacks != "all"


def audit(
    run: "PruneRun | Path | str | None" = None,
    *,
    model: Any = None,
    evidence: Evidence | None = None,
    members: Any = None,
    nonmembers: Any = None,
    attacker: Any = None,
    train: "Callable[[Any, Any, int], Any] | None" = None,
    attacks: Iterable[str] | str = "all",
    shadows: int = 5,
    adaptive: bool = True,
    online: bool = True,
    seed: int = 0,
    jobs: int = 1,
) -> dict[str, Any]:
    """Audit one target, and return the findings as a JSON-ready dictionary.

    The target is one of three:

    Parameters
    ----------
    run
        What `privet.prune` returned, or the folder of `privet prune`. A pruned model's training
        data are its members; its development set, which early stopping has looked at, serves as
        nonmembers unless some are given.
    model
        A torch module that ends in class logits, or a function from inputs (n, ...) to logits or
        log-confidences (n, classes), of any make; with ``members`` and ``nonmembers``.
    evidence
        Signals recorded elsewhere; ``members`` is then the truth, shape (audited samples,), bool.
        No torch is needed, except for the attacks that learn.
    members, nonmembers
        ``(X, y)`` or map-style datasets: the target's training data, and data it never met.
    attacker
        The attacker's own data. Without it shadow models draw from members and nonmembers
        mixed, and attacks learn on the very samples in question.
    train
        From ``(X, y, seed)`` to a shadow model like ``model``. By default a torch module is
        trained anew from fresh weights; other models are then attacked without shadow models.
    attacks, shadows, adaptive, online, seed, jobs
        See `Settings`.

    Raises
    ------
    OptionError
        When not exactly one target is given, or an option does not go with it.
    """
    if sum(each is not None for each in (run, model, evidence)) != 1:
        raise OptionError("audit one of: a run, a model, or evidence")
    settings = Settings(attacks, shadows, adaptive, online, seed, jobs)
    if evidence is not None:
        if members is None or nonmembers is not None or attacker is not None or train is not None:
            raise OptionError("evidence goes with members, a boolean a sample, and nothing else")
        return report(evidence, np.asarray(members), settings=settings)
    if isinstance(run, (str, Path)):
        from privet.jobs.audit_run import audit_run

        return audit_run(Path(run), settings)
    if run is not None:
        from privet.jobs.audit_run import audit_pruned

        return audit_pruned(run, nonmembers=nonmembers, attacker=attacker, settings=settings)
    if members is None or nonmembers is None:
        raise OptionError("a model is audited on members and nonmembers; give both")
    from privet.jobs.audit_model import audit_model

    return audit_model(
        model, (members, nonmembers), attacker=attacker, train=train, settings=settings
    )


def report(
    evidence: Evidence,
    members: BoolArray,
    *,
    settings: Settings,
    about: Mapping[str, Any] | None = None,
    adaptive: bool | None = None,
    groupings: Sequence[Grouping] | None = None,
    samples: IntArray | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """Run the attacks, judge them, and return the audit as a JSON-ready dictionary.

    Parameters
    ----------
    members
        Shape (audited samples,), bool: the truth. No attack sees it.
    about
        What was audited; stands first in the report.
    adaptive
        Whether shadow models were made the target's own way; None where nobody can tell.
    groupings
        Ways to divide the audited samples; by class unless given. Quartiles of memorization join
        them where reference models trained on some of the samples.
    samples
        Shape (audited samples,): what to call each one, by default its position.
    started
        When the audit began, on the clock of `time.perf_counter`; now, unless given.
    """
    started = time.perf_counter() if started is None else started
    skipped = unsupported(settings.chosen, evidence) if settings.attacks == "all" else {}
    groupings = [by_class(evidence.target.labels)] if groupings is None else list(groupings)
    online = "online" in evidence.holds
    if online:
        groupings.append(by_quantile(estimated_memorization(evidence)))
    attacks = {name: each for name, each in settings.chosen.items() if name not in skipped}
    findings = find(
        evidence,
        members,
        attacks=attacks,
        seed=settings.seed,
        groupings=groupings,
        samples=samples,
        skipped=skipped if settings.attacks == "all" else None,
    )
    return {
        **(about or {}),
        "adaptive": adaptive,
        "online": online,
        "shadows": 0 if evidence.shadow is None else evidence.shadow.models,
        "findings": findings,
        "skipped": skipped,
        "seconds": time.perf_counter() - started,
        "seed": settings.seed,
        "versions": versions(),
    }
