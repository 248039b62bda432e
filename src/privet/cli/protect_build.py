"""`privet protect build` and `attack`: make bundles, and see what they are worth."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import RenderableType

from privet.cli.console import Json, answer, progress
from privet.errors import OptionError


def build(
    data: str,
    *,
    out: Path,
    kind: Literal["attribute", "membership"] | None = None,
    hidden: int | None = None,
    speedups: str | None = None,
    attacker_hidden: int | None = None,
    recipe: str | None = None,
    importance: Literal["l1", "taylor", "random"] | None = None,
    precisions: str = "float32",
    policy: Literal["modify_add", "modify_exist", "add_new"] | None = None,
    low: str = "",
    high: str = "",
    never: str = "",
    bounds: str = "",
    onnx: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 0,
    json: Json = False,
) -> int:
    """Train a defense model on DATA, prune it to tiers, and write one bundle a tier.

    Attribute protection keeps a private attribute (DATA's labels) from being guessed from a
    person's ratings in [0, 1]. Membership protection keeps a classifier's confidences from
    giving its training data away. Every tier is attacked and held against the paper's
    Definitions 1-3. A build that was interrupted resumes when the same command is repeated.
    Exit status 1 when no bundle was written; the last lines say which tiers meet the Definitions.

    Parameters
    ----------
    data
        A data set from `privet data list`, or a CSV, TSV or NPZ file.
    out
        The folder for bundles, protect.json and finished stages.
    kind
        attribute or membership; a listed data set knows which, a file is attribute.
    hidden
        Hidden units of the attribute defense model before pruning; 4000 unless given.
    speedups
        One tier each, separated by commas, e.g. 50,100,200.
    attacker_hidden
        Hidden units of the attack model that judges attribute protection; 4000 unless given.
    recipe
        How attribute tiers are retrained: transfer (the default: stops early, so that what
        deceives the tier deceives other models); smoothed, decayed or averaged (transfer with
        smoothed labels, or decayed or averaged weights); plain; sgd; or paper (100 epochs whatever
        happens).
    importance
        What tells the units of attribute tiers to keep: l1 (the default), taylor, or random.
    precisions
        How to store each tier's weights, one bundle each: float32, float16 (half the size), int8 (a
        quarter), separated by commas. Each is attacked and checked as it is stored.
    policy
        What bundles for attribute protection may change: entries that are there (modify_exist),
        absent ones (add_new), or both (modify_add, the default).
    low
        The lowest legal value of an entry that is there, in 0..1: one number (0 by default), or one
        a feature, separated by commas.
    high
        The highest legal value, in 0..1: one number (1 by default), or one a feature.
    never
        Features that no release changes, by name or number, separated by commas; those that almost
        no training user has are among them anyway.
    bounds
        Replace bounds of Definitions 1-3, e.g. q=0.4,m=0.01: m is the most difference of the
        accuracies, r the most share of parameters, q the most attack accuracy, n the most
        difference of the attack accuracies before and after pruning.
    onnx
        Write every tier's defense model as ONNX, too, checked against torch. Of membership
        protection these are as secret as the bundles.
    seed
        Fixes splits, weights and the order of the data.
    json
        Print the result as one JSON object.
    """
    from privet.jobs.protect import build_protection
    from privet.report.terminal import definitions_table, protect_table

    with progress():
        result = build_protection(
            data,
            kind=kind,
            hidden=hidden,
            speedups=None if speedups is None else _speedups(speedups),
            attacker_hidden=attacker_hidden,
            recipe=recipe,
            importance=importance,
            precisions=_listed(precisions),
            policy=policy,
            low=_values("low", low),
            high=_values("high", high),
            never=_listed(never),
            bounds=_bounds(bounds),
            seed=seed,
            out=out,
        )
        exported = []
        if onnx:
            from privet.jobs.export_bundle import export_tiers

            exported = export_tiers(result["tiers"], out)
            result = {**result, "onnx": exported}
    answer(
        result,
        protect_table(result),
        definitions_table(result),
        *(f"wrote {each['file']}" for each in exported),
        _meeting(result["tiers"]),
        f"Next: privet report {quote(str(out))}",
        as_json=json,
    )
    if any(tier["bundle"] for tier in result["tiers"]):
        return 0
    found = max(tier["found"] for tier in result["tiers"])
    reason = f"noise was found for at most {found:.1%} of held-out vectors"
    print(f"privet: no tier was released: {reason}", file=sys.stderr)
    return 1


def attack(
    records: Path | None = None,
    *,
    labels: Path | None = None,
    build: Path | None = None,
    known: str | None = None,
    attackers: str | None = None,
    attacker_hidden: int | None = None,
    bundle: Path | None = None,
    budget: float | None = None,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Guess the attribute of the users in RECORDS, protected or not, and count how often right.

    With --build, the attack model of that build guesses. With --known, attackers learn from
    users whose attribute is known, then guess:

    * nn: a neural network, trained until it guesses no better
    * nn-sgd: the same by the SP-ASPP paper's training, 50 epochs of gradient descent
    * nn-late: nn trained for 30 epochs, until it overfits
    * logistic: logistic regression
    * forest: a random forest
    * distilled: a network that learns from another's softened outputs (defensive distillation)
    * region: a network that is asked about many neighbors of a record, which vote
    * adversarial: a network that also learns from users protected by --bundle, at --budget
    * majority: always the most common attribute, which needs no record

    So you see what protection, or any other change to the records, is worth:

        privet protect attack mine.txt --labels cities.txt --known att
        privet protect attack protected.txt --labels cities.txt --known att

    Parameters
    ----------
    records
        `app:score` text, a user a line, or a CSV, TSV or NPZ file without labels. Left out with
        --known, the test users of the data set are asked, or a fifth of its users.
    labels
        The users' true attributes, one a line: the class's name where classes have names, as those
        of a CSV file do, else its number.
    build
        A folder made by `privet protect build` for attribute protection.
    known
        A data set from `privet data list`, or a CSV, TSV or NPZ file, with values in [0, 1]; its
        labels are the attribute.
    attackers
        Names separated by commas, or all (the default); adversarial is among all with --bundle.
    attacker_hidden
        Hidden units of every network; 4000 unless given. The paper's nn-sgd has 30000, which take
        minutes.
    bundle
        The defense that adversarial learns from: the known users, protected by this bundle under
        keys of the attacker's own.
    budget
        The budget of that defense: expected changed entries of a record.
    seed
        Fixes everything that chance decides.
    json
        Print the accuracies as one JSON object.
    """
    if (build is None) == (known is None):
        raise OptionError("name one that guesses: --build FOLDER or --known DATA")
    if known is not None:
        from privet.jobs.attribute_audit import audit_attribute_data

        names = "all" if attackers is None else attackers
        with progress():
            found = audit_attribute_data(
                known,
                records=records,
                labels=labels,
                attackers=_listed(names),
                hidden=attacker_hidden,
                bundle=bundle,
                budget=budget,
                seed=seed,
            )
        answer(found, _attackers_table(found), as_json=json)
        return
    if any(option is not None for option in (attackers, attacker_hidden, bundle, budget)):
        raise OptionError(
            "--attackers, --attacker-hidden, --bundle and --budget go with --known, not with "
            "--build"
        )
    if records is None or labels is None or build is None:
        raise OptionError("--build guesses about the users of a file; give RECORDS and --labels")
    from privet.jobs.attribute_evaluation import attack_file

    with progress():
        found = attack_file(records, labels, build=build)
    line = (
        f"guessed {found['accuracy']:.1%} of {found['users']} users right "
        f"(95% interval {found['low']:.1%} to {found['high']:.1%})"
    )
    answer(found, line, as_json=json)


def _meeting(tiers: Sequence[Mapping[str, Any]]) -> str:
    """Say which of the tiers that have a bundle meet Definitions 1-3."""
    from privet.report import wording
    from privet.report.definitions import passed

    met = [wording.tier(tier) for tier in tiers if tier["bundle"] and passed(tier["definitions"])]
    if not met:
        return "No bundle meets Definitions 1-3: the reports say what each missed."
    return f"Bundles that meet Definitions 1-3: {', '.join(met)}"


def _attackers_table(found: Mapping[str, Any]) -> RenderableType:
    """Return an attribute audit, one attacker a row."""
    from privet.report import tables, terminal, wording

    rows = [
        (
            entry["attacker"],
            f"{wording.percent(entry['accuracy'])} "
            f"[{100 * entry['low']:.1f}, {100 * entry['high']:.1f}]",
            wording.duration(entry["seconds"]),
        )
        for entry in found["attackers"]
    ]
    note = (
        f"Learned from {found['known_users']:,} users of {found['dataset']} with "
        f"{found['classes']} classes. Always guessing the most common one: "
        f"{wording.percent(found['majority_accuracy'])}. Brackets: 95% confidence interval."
    )
    title = f"Attributes guessed right, of {found['users']:,} users"
    return terminal.rich(tables.table(title, ("attacker", "right", "time"), rows, note=note))


def _speedups(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            f"--speedups takes numbers separated by commas, e.g. 50,100; got {text!r}"
        ) from None


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _values(option: str, text: str) -> float | list[float] | None:
    """Return one number or several; None for nothing."""
    try:
        values = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise OptionError(
            f"--{option} takes one number in 0..1, or one a feature, separated by commas; "
            f"got {text[:40]!r}"
        ) from None
    return values if len(values) > 1 else (values[0] if values else None)


def _bounds(text: str) -> dict[str, float]:
    try:
        pairs = (part.split("=") for part in text.split(",") if part)
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise OptionError(f"--bounds takes e.g. q=0.4,m=0.01; got {text!r}") from None
