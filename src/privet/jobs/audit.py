"""The audit: shadow models -> evidence -> attacks -> findings."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn

from privet import query
from privet.attacks import Attack
from privet.data.splits import ShadowPool, draw_members, pruning_split, shadow_pool, train_fraction
from privet.errors import DataError, OptionError
from privet.files import replacing, write_json
from privet.findings import choose_attacks, find
from privet.fit import Dense
from privet.jobs.inputs import as_dense, dense, joined, load_again, rows_of
from privet.jobs.prune import PruneRun
from privet.jobs.prune_network import PruneSettings, prune_network
from privet.jobs.stages import read_run, versions
from privet.models import FullyConnected, load_weights
from privet.progress import track
from privet.seeds import derive
from privet.signals import BoolArray, Evidence, FloatArray, Signals
from privet.tabular import read_npz


@dataclass(frozen=True, eq=False)
class Attacker:
    """What the auditor's attacker owns: data, and knowledge of how the target was made.

    Parameters
    ----------
    data
        Dense samples of the attacker's own.
    pool
        Which of them shadow models draw members from, and which stop their training early.
    build, settings
        How the target was made; shadow models are made the same way (an adaptive attacker).
    """

    data: Dense
    pool: ShadowPool
    build: Callable[[], nn.Module]
    settings: PruneSettings
    seed: int


def audit_run(
    folder: Path, *, attacks: Iterable[str] | str, shadows: int, seed: int, jobs: int
) -> dict[str, Any]:
    """Audit the pruned model of a run folder; writes ``audit.json`` there and returns it.

    Shadow models are pruned with the very same defense and settings on the attacker's half of
    the data. Their logits stay in ``folder/shadows``, so none is trained twice.

    Parameters
    ----------
    attacks
        Names from `privet.attacks.ATTACKS`, or ``"all"``.
    shadows
        Number of shadow models, at least one.
    jobs
        Shadow models trained at the same time, one processor each.
    """
    chosen = _check(attacks, shadows, jobs)
    run = read_run(folder, "prune")
    result, finished = run.result, run.recall("model")
    if result is None or finished is None:
        raise DataError(f"the run in {folder} is not finished; repeat its `privet prune` command")
    settings = dict(run.record["settings"])
    if set(settings) != {
        "dataset",
        "data",
        "seed",
        *(field.name for field in fields(PruneSettings)),
    }:
        raise DataError(f"the run in {folder} is of another version of privet; prune again")
    table = load_again({key: settings.pop(key) for key in ("dataset", "data")})
    split = pruning_split(table, settings.pop("seed"))
    architecture = FullyConnected(**finished[0]["architecture"])
    model = architecture.build()
    load_weights(model, finished[1])
    started = time.perf_counter()
    attacker = Attacker(
        data=dense(table, split.attacker),
        pool=shadow_pool(len(split.attacker), seed, train_fraction(table)),
        build=architecture.build,
        settings=PruneSettings(**settings),
        seed=seed,
    )
    evidence, truth = gather(
        model,
        (dense(table, split.train), dense(table, split.test)),
        attacker=attacker,
        folder=folder / "shadows" / f"seed-{seed}",
        shadows=shadows,
        jobs=jobs,
    )
    kept = ("dataset", "defense", "pruner", "sparsity", "train_accuracy", "test_accuracy")
    audit = {
        **{key: result[key] for key in kept},
        "adaptive": True,
        "shadows": shadows,
        "findings": find(evidence, truth, attacks=chosen, seed=seed),
        "seconds": time.perf_counter() - started,
        "seed": seed,
        "versions": versions(),
    }
    write_json(folder / "audit.json", audit)
    return audit


def audit(
    run: PruneRun,
    *,
    nonmembers: Any = None,
    attacker: Any = None,
    attacks: Iterable[str] | str = "all",
    shadows: int = 5,
    seed: int = 0,
    jobs: int = 1,
) -> dict[str, Any]:
    """Audit a model pruned in memory, and return the findings as a JSON-ready dictionary.

    Parameters
    ----------
    run
        What `privet.prune` returned; its training data are the members.
    nonmembers
        Data the model never met, as ``(X, y)`` or a map-style dataset. Without it the run's
        development set serves, which early stopping has looked at.
    attacker
        The attacker's own data. Without it shadow models draw from members and nonmembers
        mixed, which is the strongest attacker: one that owns the very samples in question.
    attacks, shadows, seed, jobs
        As for `audit_run`.
    """
    chosen = _check(attacks, shadows, jobs)
    outside = run.dev if nonmembers is None else as_dense(nonmembers, run.model)
    owned = joined(run.train, outside) if attacker is None else as_dense(attacker, run.model)
    evidence_from = Attacker(
        data=owned,
        pool=shadow_pool(len(owned[1]), seed, 0.8 if attacker is not None else 0.5),
        build=run.rebuild,
        settings=run.shadow_settings,
        seed=seed,
    )
    started = time.perf_counter()
    with TemporaryDirectory(prefix="privet-") as folder:
        evidence, truth = gather(
            run.model,
            (run.train, outside),
            attacker=evidence_from,
            folder=Path(folder),
            shadows=shadows,
            jobs=jobs,
        )
    return {
        "defense": run.settings.defense,
        "sparsity": run.settings.sparsity,
        "adaptive": True,
        "shadows": shadows,
        "findings": find(evidence, truth, attacks=chosen, seed=seed),
        "seconds": time.perf_counter() - started,
        "seed": seed,
        "versions": versions(),
    }


def gather(
    model: nn.Module,
    sides: tuple[Dense, Dense],
    *,
    attacker: Attacker,
    folder: Path,
    shadows: int,
    jobs: int,
) -> tuple[Evidence, BoolArray]:
    """Train the shadow models and query everyone; return the evidence and, apart, the truth.

    Parameters
    ----------
    sides
        The audit pool: the target's members, then nonmembers.
    folder
        Where shadow models leave their logits, a file each; finished ones are read, not trained.
    """
    files = [folder / f"{number:04d}.npz" for number in range(shadows)]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    work = (delayed(_train_shadow)(attacker, number, files[number]) for number in missing)
    workers = Parallel(n_jobs=min(jobs, max(1, len(missing))), return_as="generator_unordered")
    for _ in track(workers(work), "shadow models", total=len(missing)):
        pass
    logits, inside = zip(*(_read_shadow(file) for file in files), strict=True)
    inputs, labels = joined(*sides)
    owned = rows_of(attacker.data, attacker.pool.pool)[1].numpy()
    evidence = Evidence(
        target=query.signals([model], inputs, labels.numpy()),
        shadow=Signals(np.stack(logits), owned),
        shadow_members=np.stack(inside),
    )
    return evidence, np.arange(len(labels)) < len(sides[0][1])


def _check(attacks: Iterable[str] | str, shadows: int, jobs: int) -> Mapping[str, Attack]:
    if shadows < 1 or jobs < 1:
        raise OptionError(f"shadows and jobs must be at least 1; got {shadows} and {jobs}")
    return choose_attacks(attacks)


def _train_shadow(attacker: Attacker, number: int, file: Path) -> None:
    """Prune one shadow model and leave its logits on the attacker's pool in ``file``."""
    seed = derive(attacker.seed, "shadow", number)
    members = draw_members(attacker.pool, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several shadow models train at the same time
    try:
        pruned = prune_network(
            attacker.build,
            rows_of(attacker.data, attacker.pool.pool[members]),
            rows_of(attacker.data, attacker.pool.dev),
            settings=attacker.settings,
            seed=seed,
        )
    finally:
        torch.set_num_threads(threads)
    pool = rows_of(attacker.data, attacker.pool.pool)
    with replacing(file) as temporary:
        np.savez(temporary, logits=query.logits(pruned.model, pool[0]).numpy(), members=members)


def _read_shadow(file: Path) -> tuple[FloatArray, BoolArray]:
    arrays = read_npz(file, [("logits", "members")])
    return arrays["logits"], arrays["members"]
