"""The attribute audit: how well a private attribute can be guessed from people's records.

Attackers learn from users whose attribute is known, then guess it for others, protected or not.
Importing this module imports no torch, and only the neural network needs it.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from privet.attacks.attribute import (
    ATTRIBUTE_ATTACKERS,
    NETWORK,
    AttributeAttacker,
    Known,
    Protect,
    Records,
    hold_out,
    with_hidden,
)
from privet.data.registry import load
from privet.device.matrices import is_sparse
from privet.errors import DataError, OptionError
from privet.jobs.attribute_files import protection_for, read_defense, read_records, read_truth
from privet.metrics import clopper_pearson
from privet.progress import track
from privet.seeds import derive
from privet.signals import IntArray

Attackers = Mapping[str, AttributeAttacker] | Iterable[str] | str
Labelled = tuple[Records, NDArray[np.int64]]
ASKED_SHARE = 0.2


def choose_attackers(
    attackers: Attackers, *, hidden: int | None = NETWORK.hidden, protected: bool = False
) -> Mapping[str, AttributeAttacker]:
    """Return attackers by name; ``"all"`` is every one that can learn from what is given.

    Parameters
    ----------
    attackers
        Names from `privet.attacks.attribute.ATTRIBUTE_ATTACKERS`, or attackers of your own.
    hidden
        Hidden units of every network, but of your own attackers'. None leaves each the width that
        its paper gives it, of which 30,000 units take minutes.
    protected
        Whether the defense is given, for attackers that learn from protected records.

    Raises
    ------
    OptionError
        On an unknown name, no name at all, a network without units, or an attacker that needs
        the defense where it is not given.
    """
    if isinstance(attackers, Mapping):
        return attackers
    if hidden is not None and hidden < 1:
        raise OptionError(f"a hidden layer needs at least one unit; got {hidden}")
    wanted = [attackers] if isinstance(attackers, str) else list(attackers)
    if wanted == ["all"]:
        usable = ATTRIBUTE_ATTACKERS.items()
        wanted = [name for name, each in usable if protected or not each.needs_protection]
    unknown = [name for name in wanted if name not in ATTRIBUTE_ATTACKERS]
    if unknown or not wanted:
        raise OptionError(
            f"unknown attacker {', '.join(map(repr, unknown)) or 'list (it is empty)'}; "
            f"choose from {', '.join(ATTRIBUTE_ATTACKERS)} or all"
        )
    chosen = {name: ATTRIBUTE_ATTACKERS[name] for name in wanted}
    lost = [name for name, each in chosen.items() if each.needs_protection and not protected]
    if lost:
        raise OptionError(
            f"{lost[0]} learns from protected records; give it the defense by --bundle and "
            f"--budget (in Python: protect)"
        )
    if hidden is None:
        return chosen
    return {name: with_hidden(each, hidden) for name, each in chosen.items()}


def audit_attribute(
    known: tuple[Any, Any],
    asked: tuple[Any, Any],
    *,
    attackers: Attackers = "all",
    classes: int | None = None,
    protect: Protect | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Let attackers learn from known users, and judge their guesses about others.

    Parameters
    ----------
    known, asked
        ``(X, y)``: records of shape (users, features) with values in [0, 1], dense or SciPy
        sparse, and each user's attribute, a whole number from 0. The attributes of the asked
        users judge the guesses, and no attacker sees them.
    attackers
        Names from `privet.attacks.attribute.ATTRIBUTE_ATTACKERS`, ``"all"``, or attackers of your
        own by name. Networks have 4,000 hidden units.
    classes
        Number of attributes; by default one more than the highest among the known.
    protect
        The defense that the asked users may have used, from records and a seed to protected
        records, for attackers that learn from it (``"adversarial"``); e.g.
        `privet.jobs.attribute_evaluation.bundle_protection`.
    seed
        Fixes everything that chance decides.

    Returns
    -------
    A JSON-ready dictionary: ``users`` (asked), ``known_users``, ``classes``,
    ``majority_accuracy`` (of guessing the known users' most common attribute), and one of the
    ``attackers`` each: its name and paper, its ``accuracy`` in [0, 1] with a Clopper-Pearson 95 %
    interval ``low`` to ``high``, and its wall ``seconds``.

    Raises
    ------
    OptionError
        On an unknown attacker, one that needs the defense without it, or a negative seed.
    DataError
        When shapes disagree, values are out of range, or the known users hold one attribute only.
    """
    chosen = choose_attackers(attackers, protected=protect is not None)
    if seed < 0:
        raise OptionError(f"seeds start at 0; got {seed}")
    started = time.perf_counter()
    records, labels = _checked(known, "known")
    questions, truth = _checked(asked, "asked")
    classes = int(labels.max()) + 1 if classes is None else classes
    _check_together((records, labels), (questions, truth), classes)
    questions = _like(records, questions)
    told = Known(records, labels, classes, protect)
    found = []
    for name, attacker in track(chosen.items(), "attackers", total=len(chosen)):
        begun = time.perf_counter()
        guess = attacker.fit(told, seed=seed)
        judged = _judged(guess(questions), truth)
        seconds = time.perf_counter() - begun
        found.append({"attacker": name, "paper": attacker.paper, **judged, "seconds": seconds})
    return {
        "users": len(truth),
        "known_users": len(labels),
        "classes": classes,
        "majority_accuracy": float((truth == np.bincount(labels).argmax()).mean()),
        "attackers": found,
        "seconds": time.perf_counter() - started,
        "seed": seed,
    }


def audit_attribute_data(
    known: str,
    *,
    records: Path | None = None,
    labels: Path | None = None,
    attackers: Attackers = "all",
    hidden: int | None = None,
    bundle: Path | None = None,
    budget: float | None = None,
    seed: int,
) -> dict[str, Any]:
    """Let attackers learn from a data set, and judge their guesses about the users in a file.

    Parameters
    ----------
    known
        A registered name, or the path of a table (`privet.data.registry`): its labels are the
        attribute.
    records, labels
        The asked users and their true attributes, one a line: by class name where the data set
        names its classes (CSV, NPZ), else by number. Records are CSV, TSV or NPZ without labels,
        or lines of ``app:score`` pairs (`privet.device.formats`). Without both, the data set's
        own test users are asked, or a fifth of its users, held out.
    hidden
        Hidden units of every network; 4,000 unless given.
    bundle, budget
        The defense that the asked users may have used, and its budget, for attackers that learn
        from it.

    Raises
    ------
    OptionError
        On an unknown attacker, one of the two files without the other, or a bundle without
        a budget.
    DataError
        When anything is wrong with the data set or the files.
    """
    hidden = NETWORK.hidden if hidden is None else hidden
    chosen = choose_attackers(attackers, hidden=hidden, protected=bundle is not None)
    if (records is None) != (labels is None):
        raise OptionError("RECORDS and --labels go together; give both, or neither")
    defense = read_defense(bundle, budget)
    table = load(known)
    if table.images:
        raise DataError(f"{table.name} holds images; the attribute audit takes tables of ratings")
    if records is not None and labels is not None:
        asked = (
            read_records(records, features=table.row_shape[0], names=table.feature_names),
            read_truth(labels, classes=table.classes, names=table.class_names),
        )
    elif table.test is not None:
        asked = table.test.inputs, table.test.labels
    else:
        held, rest = hold_out(len(table), ASKED_SHARE, derive(seed, "asked"), what=table.name)
        asked, table = (table.inputs[held], table.labels[held]), table.take(rest)
    found = audit_attribute(
        (table.inputs, table.labels),
        asked,
        attackers=chosen,
        classes=table.classes,
        protect=None if defense is None else protection_for(table, *defense),
        seed=seed,
    )
    return {"dataset": table.name, **found}


def _judged(guessed: IntArray, truth: IntArray) -> dict[str, float]:
    if guessed.shape != truth.shape:
        raise DataError(f"an attacker must guess once a user, {truth.shape}; got {guessed.shape}")
    right = int((guessed == truth).sum())
    low, high = clopper_pearson(right, len(truth))
    return {"accuracy": right / len(truth), "low": low, "high": high}


def _checked(data: tuple[Any, Any], who: str) -> Labelled:
    """Return records as float32, dense or CSR, in a copy of ours, and labels as integers."""
    if not isinstance(data, tuple) or len(data) != 2:
        raise DataError(f"the {who} users must be given as (X, y)")
    records: Any = _own_csr(data[0]) if is_sparse(data[0]) else np.array(data[0])
    labels = np.asarray(data[1])
    if len(records.shape) != 2 or 0 in records.shape or labels.shape != records.shape[:1]:
        raise DataError(
            f"the {who} users need records of shape (users, features) and one label each; got "
            f"shapes {records.shape} and {labels.shape}"
        )
    if records.dtype.kind not in "fiub" or labels.dtype.kind not in "fiub":
        raise DataError(
            f"the {who} users' records and labels must be numbers; got {records.dtype} and "
            f"{labels.dtype}"
        )
    values = records.data if is_sparse(records) else records
    wrong = values[~((values >= 0) & (values <= 1))]
    if wrong.size:
        raise DataError(f"the {who} users' values must lie in [0, 1]; scale them: {wrong.flat[0]}")
    odd = labels[~((labels >= 0) & (labels == np.floor(labels)))]
    if odd.size:
        raise DataError(f"the {who} users' labels must be whole numbers from 0; got {odd[0]}")
    return records.astype(np.float32), labels.astype(np.int64)


def _own_csr(records: Any) -> Any:
    """Return a copy that scikit-learn's trees take: no 64-bit indices, no entry stored twice."""
    copy = records.tocsr(copy=True)
    copy.sum_duplicates()
    parts = (copy.data, copy.indices.astype(np.int32), copy.indptr.astype(np.int32))
    return sparse.csr_array(parts, shape=copy.shape)


def _check_together(known: Labelled, asked: Labelled, classes: int) -> None:
    """Raise `DataError` unless the asked users are of the known ones' kind."""
    (records, labels), (questions, truth) = known, asked
    if questions.shape[1] != records.shape[1]:
        raise DataError(
            f"the asked users have {questions.shape[1]} features, the known {records.shape[1]}; "
            f"both need the same, in the same order"
        )
    highest = max(labels.max(), truth.max())
    if highest >= classes:
        raise DataError(f"labels must lie in 0..{classes - 1}, the known ones; got {highest}")
    if len(np.unique(labels)) < 2:
        raise DataError(f"all known users have label {labels[0]}: there is nothing to guess")


def _like(records: Records, others: Records) -> Records:
    """Return ``others`` in the layout of ``records``: dense or sparse."""
    if is_sparse(records):
        return sparse.csr_array(others)
    return others.toarray() if is_sparse(others) else others
