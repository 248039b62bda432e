"""Shadow models -> evidence: trained once, asked once, their answers on disk.

No shadow model is kept. Each leaves a file of answers, so an interrupted audit goes on where it
stopped, and memory does not grow with their number.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn

from privet import query
from privet.data.splits import ShadowPool, draw_members
from privet.errors import DataError, EvidenceError
from privet.files import read_json, replacing, write_json
from privet.fit import Dense
from privet.jobs.inputs import rows_of
from privet.progress import track
from privet.seeds import derive
from privet.signals import BoolArray, Evidence, FloatArray, IntArray, Signals
from privet.tabular import read_npz

_logger = logging.getLogger(__name__)

FORMAT = 2
"""Raised whenever shadow models of the same attacker would answer otherwise."""

Answers = Mapping[str, FloatArray]
"""What one model says of all samples asked: logits of each release, and its noisy figures."""

Make = Callable[[Dense, Dense, int], Sequence[nn.Module]]
"""From members, development samples and a seed to the releases of a model: the attacked one first,
then others such as the network before it was pruned."""


@dataclass(frozen=True, eq=False)
class Attacker:
    """What the auditor's attacker owns: data, and knowledge of how the target was made.

    Parameters
    ----------
    data
        The audited samples, then the attacker's own.
    audited
        How many samples are audited.
    pool
        Which samples shadow models draw members from, and which stop their training early.
    make
        How the target was made; shadow models are made the same way (an adaptive attacker).
    noisy
        Whether models are asked about noisy inputs too, which takes thirty times the queries.
    """

    data: Dense
    audited: int
    pool: ShadowPool
    make: Make
    seed: int
    noisy: bool = True

    @property
    def asked(self) -> IntArray:
        """The samples that shadow models answer on: the audited ones, then the pool's others."""
        own = self.pool.pool[self.pool.pool >= self.audited]
        return np.concatenate([np.arange(self.audited), own])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the samples, who may draw which, and the noise; in hexadecimal."""
        noise = (query.SENSITIVITY_DRAWS, query.SENSITIVITY_SCALE, query.ROBUSTNESS_DRAWS)
        about = (
            self.audited,
            self.pool.drawn,
            self.seed,
            *noise,
            query.ROBUSTNESS_SCALES,
            self.noisy,
        )
        digest = hashlib.sha256(repr((FORMAT, about)).encode())
        arrays = (*(part.numpy() for part in self.data), self.pool.pool, self.pool.dev)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def members(self, number: int) -> IntArray:
        """Return the samples that shadow model ``number`` trains on."""
        return self.pool.pool[draw_members(self.pool, self.seed, number)]

    def memberships(self, shadows: int) -> BoolArray:
        """Return which of the samples ``asked`` each shadow model trains on."""
        inside = [np.isin(self.asked, self.members(number)) for number in range(shadows)]
        return np.stack(inside)


def gather(
    releases: Sequence[nn.Module],
    attacker: Attacker,
    *,
    folder: Path,
    shadows: int,
    jobs: int,
    noise_is_needed: bool = True,
) -> Evidence:
    """Train the shadow models that are missing, ask everyone, and return the evidence.

    Where the attacker owns samples beside the audited ones, attacks learn on those alone, and
    the target's answers on them are the population. Where it owns none, they learn on the audited
    samples, whose membership in the *shadow* models is known just as well.

    Parameters
    ----------
    releases
        The target first, then its other releases, as `Attacker.make` returns a shadow's.
    folder
        Where answers are kept, a file a shadow model; finished ones are read, not trained.
    shadows
        Number of shadow models, at least one.
    jobs
        Shadow models trained at the same time, each on one thread, through joblib: wrap the call
        in ``joblib.parallel_config`` to hand them to Ray, Dask or another backend.
    noise_is_needed
        What becomes of a target that does not take noisy inputs, such as one of token ids: an
        `EvidenceError` before any shadow model is trained, or else evidence without noise.
    """
    target, attacker = _ask_target(releases, attacker, noise_is_needed=noise_is_needed)
    _claim(folder, attacker)
    files = [folder / f"{number:04d}.npz" for number in range(shadows)]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    work = (delayed(_train_and_ask)(attacker, number, os.getpid()) for number in missing)
    made = _in_parallel(work, min(jobs, max(1, len(missing))))
    for number, answers in track(made, "shadow models", total=len(missing)):
        with replacing(files[number]) as temporary:
            np.savez(temporary, **answers)  # type: ignore[arg-type]
    known = {name: _stacked(files, name, like=target[name]) for name in target}
    memberships = attacker.memberships(shadows)
    first, *others = (
        _evidence(attacker, target, known, memberships, release=release)
        for release in range(len(releases))
    )
    return Evidence(
        first.target,
        first.shadow,
        first.shadow_members,
        reference=first.reference,
        reference_members=first.reference_members,
        population=first.population,
        releases=tuple(others),
    )


def _claim(folder: Path, attacker: Attacker) -> None:
    """Write down whose shadow models answer here, or refuse a folder that is of other ones."""
    mark = folder / "of.json"
    if not mark.exists() and not any(folder.glob("*.npz")):
        write_json(mark, {"attacker": attacker.fingerprint})
    elif not mark.exists() or read_json(mark) != {"attacker": attacker.fingerprint}:
        raise DataError(
            f"the shadow models in {folder} are of another audit or version; delete that folder "
            f"and repeat the audit"
        )


def _in_parallel(work: Iterable[Any], jobs: int) -> Iterator[tuple[int, Answers]]:
    """Yield results as they come, or ``jobs`` at a time from engines that return only lists."""
    try:
        workers = Parallel(n_jobs=jobs, return_as="generator_unordered")
    except ValueError:
        work, workers = iter(work), Parallel(n_jobs=jobs)
        while batch := workers(islice(work, jobs)):
            yield from batch
    else:
        yield from workers(work)


def _train_and_ask(attacker: Attacker, number: int, auditor: int) -> tuple[int, Answers]:
    """Make one shadow model for the process ``auditor``; return its number and answers."""
    if os.getpid() != auditor:
        _end_with_parent()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several shadow models train at the same time
    try:
        releases = attacker.make(
            rows_of(attacker.data, attacker.members(number)),
            rows_of(attacker.data, attacker.pool.dev),
            derive(attacker.seed, "shadow", number),
        )
        return number, _ask(releases, attacker)
    finally:
        torch.set_num_threads(threads)


@cache
def _end_with_parent() -> None:
    """Let this worker process end soon after the one that started it; once is enough.

    Workers of an auditor that was killed would otherwise wait for work for good.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _ask_target(
    releases: Sequence[nn.Module], attacker: Attacker, *, noise_is_needed: bool
) -> tuple[Answers, Attacker]:
    """Return the target's answers, and the attacker, who asks for no more than the target takes."""
    try:
        return _ask(releases, attacker), attacker
    except EvidenceError as error:
        if noise_is_needed:
            raise
        _logger.warning("%s; they are skipped", error)
        quiet = replace(attacker, noisy=False)
        return _ask(releases, quiet), quiet


def _ask(releases: Sequence[nn.Module], attacker: Attacker) -> Answers:
    inputs, labels = rows_of(attacker.data, attacker.asked)
    truth, seed = labels.numpy(), derive(attacker.seed, "noise")
    answers = {
        _logits(release): query.logits(model, inputs).numpy()
        for release, model in enumerate(releases)
    }
    if not attacker.noisy:
        return answers
    answers["sensitivity"] = query.sensitivity(releases[0], inputs, seed=seed)
    answers["robustness"] = query.robustness(releases[0], inputs, truth, seed=seed)
    return answers


def _stacked(files: Sequence[Path], name: str, *, like: FloatArray) -> FloatArray:
    """Return one kind of answer of all shadow models, on disk; shape (models, *like.shape)."""
    with TemporaryFile(dir=files[0].parent) as file:
        stack = np.memmap(file, dtype=like.dtype, mode="w+", shape=(len(files), *like.shape))
    for row, path in enumerate(files):
        answers = read_npz(path, [(name,)])[name]
        if answers.shape != like.shape or answers.dtype != like.dtype:
            raise DataError(f"{path} is not of this audit; delete {path.parent} and repeat it")
        stack[row] = answers
    return stack


def _evidence(
    attacker: Attacker,
    target: Answers,
    known: Answers,
    memberships: BoolArray,
    *,
    release: int,
) -> Evidence:
    asked = len(attacker.asked)
    audited = slice(0, attacker.audited)
    own: slice | IntArray = slice(attacker.audited, asked)
    if asked == attacker.audited:
        # What stopped the training of shadow models is neither member nor nonmember of theirs.
        own = np.flatnonzero(~np.isin(attacker.asked, attacker.pool.dev))
    labels = attacker.data[1].numpy()[attacker.asked]

    def signals(answers: Answers, rows: slice | IntArray) -> Signals:
        asked_noise = attacker.noisy and release == 0
        noisy = (answers["sensitivity"], answers["robustness"]) if asked_noise else ()
        return Signals(
            answers[_logits(release)][:, rows], labels[rows], *(part[:, rows] for part in noisy)
        )

    one = {name: answer[None] for name, answer in target.items()}
    return Evidence(
        signals(one, audited),
        signals(known, own),
        memberships[:, own],
        reference=signals(known, audited),
        reference_members=memberships[:, audited],
        population=signals(one, own) if asked > attacker.audited else None,
    )


def _logits(release: int) -> str:
    return "logits" if release == 0 else f"logits-{release}"
