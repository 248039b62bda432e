"""Audit what `privet prune` made: a run's folder, or a model pruned in memory."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from torch import nn

from privet.data.splits import shadow_pool, train_fraction
from privet.defenses import choose
from privet.errors import DataError, OptionError
from privet.files import write_json
from privet.fit import Dense
from privet.groups import by_class, canaries, estimated_memorization
from privet.jobs.audit import Settings, report
from privet.jobs.cases import Case, Source, reopen_case
from privet.jobs.inputs import as_dense, dense, joined
from privet.jobs.known_scores import keep_scores
from privet.jobs.prune import PruneRun
from privet.jobs.prune_network import prune_network, served
from privet.jobs.settings import PruneSettings
from privet.jobs.shadows import Attacker, gather
from privet.jobs.stages import RunFolder, read_run
from privet.models import load_weights, reinitialized
from privet.seeds import derive
from privet.signals import BoolArray

SCORE_MODELS = 10
"""Networks that each shadow model's memorization scores take where the target's come from an
audit."""


@dataclass(frozen=True)
class PruneAgain:
    """How an adaptive attacker makes shadow models: the target's own way, from fresh weights.

    Parameters
    ----------
    build
        Makes a fresh network.
    settings
        How the target was pruned.
    pretrained
        Whether the target came trained. Nobody but its owner knows how; shadow models are then
        trained first as `PruneSettings` trains by default, and pruned from there.
    """

    build: Callable[[], nn.Module]
    settings: PruneSettings
    pretrained: bool = False

    def __call__(self, members: Dense, dev: Dense, seed: int) -> Sequence[nn.Module]:
        """Return the pruned network, and the network before it was pruned."""
        build = self.build
        if self.pretrained:
            usual = PruneSettings(sparsity=0.0, rounds=0)
            before = derive(seed, "before")
            build = partial(
                deepcopy, prune_network(build, members, dev, settings=usual, seed=before).model
            )
        pruned = prune_network(
            build, members, dev, settings=self.settings, seed=seed, fresh=self.build
        )
        return pruned.served, pruned.dense

    def without_defense(self) -> "PruneAgain":
        """Return the same for an attacker who does not know the defense, nor what it dictates."""
        settings = self.settings
        dictated = choose(settings.defense, settings.defense_options).settings
        usual = {
            name: getattr(PruneSettings, name)
            for name, value in dictated.items()
            if getattr(settings, name) == value
        }
        epochs = usual.get("dense_epochs", settings.dense_epochs)
        rewind = None if settings.rewind is None else min(settings.rewind, epochs)
        plain: dict[str, Any] = {"defense": "base", "defense_options": {}, "rewind": rewind}
        return replace(self, settings=replace(settings, **usual, **plain))


def audit_run(folder: Path, settings: Settings) -> dict[str, Any]:
    """Audit the pruned model of a run's folder; writes ``audit.json`` there and returns it.

    The audit of an attacker who does not know the defense goes to ``audit-non-adaptive.json``.
    Shadow models' answers stay in ``folder/shadows``, so none is trained twice.
    """
    started = time.perf_counter()
    run = read_run(folder, "prune")
    case, again = _remake(run)
    made, releases = case.made, _releases(run, again)
    members = dense(made.table, made.split.train)
    outside = np.concatenate([made.held_out, made.split.test])
    nonmembers, rows = dense(made.table, outside), np.concatenate([made.split.train, outside])
    mislabeled = np.concatenate(
        [
            np.arange(len(made.split.train)) < made.planted,
            np.arange(len(outside)) < len(made.held_out),
        ]
    )
    truth = np.arange(len(mislabeled)) < len(members[1])
    # Asking about noise is cheap for tables, so there an audit of more attacks finds it done.
    noisy = settings.noisy or not made.table.images
    evidence = gather(
        releases,
        _attacker(
            joined(members, nonmembers),
            dense(made.table, made.split.attacker) if len(made.split.attacker) else None,
            members=len(members[1]),
            fraction=train_fraction(made.table),
            make=again if settings.adaptive else again.without_defense(),
            settings=settings,
            noisy=noisy,
        ),
        folder=folder / "shadows" / (settings.name if noisy else f"{settings.name}-noiseless"),
        shadows=settings.shadows,
        jobs=settings.jobs,
        noise_is_needed=settings.noise_is_needed,
    )
    result = run.result or {}
    kept = ("dataset", "defense", "pruner", "sparsity", "train_accuracy", "test_accuracy")
    audit = report(
        evidence,
        truth,
        settings=settings,
        about={
            **{key: result[key] for key in kept},
            "canaries": _sides(mislabeled, truth) if mislabeled.any() else None,
        },
        adaptive=settings.adaptive,
        groupings=[
            by_class(evidence.target.labels, made.table.class_names),
            *([canaries(mislabeled)] if mislabeled.any() else []),
        ],
        samples=rows,
        started=started,
    )
    if "online" in evidence.holds and settings.adaptive:
        keep_scores(folder, rows, estimated_memorization(evidence))
    write_json(folder / ("audit.json" if settings.adaptive else "audit-non-adaptive.json"), audit)
    return audit


def audit_pruned(
    run: PruneRun, *, nonmembers: Any, attacker: Any, settings: Settings
) -> dict[str, Any]:
    """Audit a model pruned in memory; see `privet.audit`."""
    outside = run.dev if nonmembers is None else as_dense(nonmembers, run.model)
    fresh = partial(reinitialized, run.original)
    again = PruneAgain(fresh, run.settings, pretrained=run.settings.dense_epochs == 0)
    about = {"defense": run.settings.defense, "sparsity": run.settings.sparsity}
    return audit_in_memory(
        (run.served, run.dense),
        (run.train, outside),
        attacker=None if attacker is None else as_dense(attacker, run.model),
        make=again if settings.adaptive else again.without_defense(),
        settings=settings,
        about=about,
        adaptive=settings.adaptive,
    )


def audit_in_memory(
    releases: Sequence[nn.Module],
    sides: tuple[Dense, Dense],
    *,
    attacker: Dense | None,
    make: Callable[[Dense, Dense, int], Sequence[nn.Module]],
    settings: Settings,
    about: dict[str, Any],
    adaptive: bool | None,
) -> dict[str, Any]:
    """Audit releases of one model on its members and on nonmembers, ``sides``.

    Without an ``attacker``'s own data, shadow models draw from members and nonmembers mixed.
    """
    started, audited = time.perf_counter(), joined(*sides)
    with TemporaryDirectory(prefix="privet-") as folder:
        evidence = gather(
            releases,
            _attacker(
                audited,
                attacker,
                members=len(sides[0][1]),
                fraction=0.8,
                make=make,
                settings=settings,
                noisy=settings.noisy,
            ),
            folder=Path(folder),
            shadows=settings.shadows,
            jobs=settings.jobs,
            noise_is_needed=settings.noise_is_needed,
        )
        return report(
            evidence,
            np.arange(len(audited[1])) < len(sides[0][1]),
            settings=settings,
            about=about,
            adaptive=adaptive,
            started=started,
        )


def _attacker(
    audited: Dense,
    own: Dense | None,
    *,
    members: int,
    fraction: float,
    make: Callable[[Dense, Dense, int], Sequence[nn.Module]],
    settings: Settings,
    noisy: bool,
) -> Attacker:
    """Return an attacker who owns some samples, and (``online``) knows the audited ones too.

    Online, shadow models draw as many ``members`` as the target has, up to half of all samples.
    """
    count, seed = len(audited[1]), settings.seed
    if own is None and not settings.online:
        raise OptionError(
            "an attacker who owns no other samples has to know the audited ones; leave out "
            "--offline (online=False)"
        )
    if own is None:
        pool = shadow_pool(count, seed, 0.5)
        return Attacker(audited, count, pool, make, seed, noisy)
    if settings.online:
        pool = shadow_pool(
            count + len(own[1]),
            seed,
            fraction,
            audited=count,
            drawn=min(members, (count + len(own[1])) // 2),
        )
    else:
        most = round(fraction * len(own[1]))
        pool = shadow_pool(len(own[1]), seed, fraction, drawn=min(members, most))
        pool = replace(pool, pool=pool.pool + count, dev=pool.dev + count)
    return Attacker(joined(audited, own), count, pool, make, seed, noisy)


def _sides(canaries: BoolArray, members: BoolArray) -> dict[str, int]:
    """Return how many canaries are planted, and how many held out."""
    inside = int((canaries & members).sum())
    return {"members": inside, "nonmembers": int(canaries.sum()) - inside}


def _remake(run: RunFolder) -> tuple[Case, PruneAgain]:
    """Return a run's data as it was split, and the way its network was made."""
    if run.result is None or run.recall("model") is None:
        raise DataError(f"the run in {run.path} is not finished; repeat its `privet prune` command")
    found = run.record["settings"]
    known = {each.name for each in fields(PruneSettings)}
    if not {*known, *(each.name for each in fields(Source)), "data"} <= set(found):
        raise DataError(f"the run in {run.path} is of another version of privet; prune again")
    case = reopen_case(found)
    settings = PruneSettings(**{name: found[name] for name in known})
    if found.get("scores_of") is not None:
        # Their own scores from an audit of their own would take shadow models of shadow models;
        # this is the same estimate from fewer. The control that shuffles them shuffles scores from
        # folds, the only ones that settings can ask to be shuffled.
        shuffled = settings.scores == "shuffled"
        scores: Literal["subsampled", "shuffled"] = "shuffled" if shuffled else "subsampled"
        settings = replace(settings, scores=scores, score_models=SCORE_MODELS)
    whole = choose(settings.defense, settings.defense_options).whole and settings.dense_epochs > 0
    pretrained = found["weights"] is not None and not whole
    return case, PruneAgain(case.architecture.build, settings, pretrained)


def _releases(run: RunFolder, again: PruneAgain) -> tuple[nn.Module, nn.Module]:
    """Return a run's pruned network as it is served, and the network before it was pruned."""
    networks = []
    for stage in ("model", "dense"):
        network, finished = again.build(), run.recall(stage)
        if finished is None:
            raise DataError(f"the run in {run.path} lacks its stage {stage!r}; prune again")
        load_weights(network, finished[1])
        networks.append(network)
    defense = choose(again.settings.defense, again.settings.defense_options)
    return served(networks[0], defense), networks[1]
