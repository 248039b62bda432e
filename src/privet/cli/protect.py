"""`privet protect`: build bundles, check one, and protect a person's own file with it."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Literal

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
    bounds: str = "",
    seed: int = 0,
    json: Json = False,
) -> int:
    """Train a defense model on DATA, prune it to tiers, and write one bundle a tier.

    Attribute protection keeps a private attribute (DATA's labels) from being guessed from a
    person's ratings in [0, 1]. Membership protection keeps a classifier's confidences from
    giving its training data away. Every tier is attacked and held against the paper's
    Definitions 1-3. A build that was interrupted resumes when the same command is repeated.
    Exit status 1 when no tier is fit for release.

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
        deceives the tier deceives other models), plain, smoothed (labels), sgd, or paper (100
        epochs whatever happens).
    importance
        What tells the units of attribute tiers to keep: l1 (the default), taylor, or random.
    bounds
        Replace bounds of Definitions 1-3, e.g. q=0.4,m=0.01: m is the most difference of the
        accuracies, r the most share of parameters, q the most attack accuracy, n the most
        difference of the attack accuracies before and after pruning.
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
            bounds=_bounds(bounds),
            seed=seed,
            out=out,
        )
    answer(
        result,
        protect_table(result),
        definitions_table(result),
        f"Next: privet report {quote(str(out))}",
        as_json=json,
    )
    if any(tier["bundle"] for tier in result["tiers"]):
        return 0
    found = max(tier["found"] for tier in result["tiers"])
    reason = f"noise was found for at most {found:.1%} of held-out vectors"
    print(f"privet: no tier was released: {reason}", file=sys.stderr)
    return 1


def apply(
    file: Path,
    *,
    bundle: Path,
    budget: float,
    out: Path,
    key: Path | None = None,
    changes: Path | None = None,
    policy: Literal["modify_add", "modify_exist", "add_new"] | None = None,
    keep: str = "",
    json: Json = False,
) -> None:
    """Protect the records in FILE with a bundle, on this machine, without torch or network.

    The same record always gets the same answer under the same key, bundle, budget and options, up
    to float32 rounding, so asking again reveals nothing new. Releases of one record at several
    budgets reveal more together: publish one. Columns are matched to the bundle's features by name
    where the file has a header. The output has the input's format.

    Parameters
    ----------
    file
        Records to protect: `app:score` text, CSV, TSV or NPZ.
    bundle
        A bundle made by `privet protect build`.
    budget
        Expected change allowed: entries of a record (attribute) or L1 distance (membership).
    out
        The protected file; replaced only when all records are done.
    key
        The secret key, made on first use; by default the file that PRIVET_KEY names, or one in
        this user's data folder.
    changes
        Write what changed, record by record, as JSON.
    policy
        Attribute protection: change only entries that are there (modify_exist), only add new ones
        (add_new), or both (modify_add). What the bundle says unless given.
    keep
        Attribute protection: entries that you never want touched, by name or number, separated by
        commas.
    json
        Print the summary as one JSON object.
    """
    from privet.device import Rules, load_bundle, load_or_create_key, protect_file
    from privet.device.mechanism import default_key
    from privet.device.rules import features_named

    key_path = key or default_key()
    opened = load_bundle(bundle)
    untouched = [name.strip() for name in keep.split(",") if name.strip()]
    mask = features_named(untouched, opened.features, opened.feature_names) if untouched else None
    rules = None if policy is None and mask is None else Rules(policy=policy, keep=mask)
    with progress():
        summary = protect_file(
            file,
            opened,
            budget=budget,
            key=partial(load_or_create_key, key_path),
            out=out,
            changes=changes,
            rules=rules,
            untouchable=(bundle, key_path),
        )
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in summary.items()]
    answer(summary, *lines, f"wrote {out}", as_json=json)


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
        `app:score` text, a user a line; with --known also a CSV, TSV or NPZ file without labels.
        Left out, the test users of the data set are asked, or a fifth of its users.
    labels
        The users' true attributes, one a line: a number, or with --known FILE the class's name.
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

        names = ("all" if attackers is None else attackers).split(",")
        with progress():
            found = audit_attribute_data(
                known,
                records=records,
                labels=labels,
                attackers=[name.strip() for name in names if name.strip()],
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


def check(bundle: Path, *, json: Json = False) -> int:
    """Verify a bundle and print its card; exit status 1 if it missed Definitions 1-3.

    Parameters
    ----------
    bundle
        A bundle made by `privet protect build`.
    json
        Print the card as one JSON object.
    """
    from privet.device import load_bundle
    from privet.report.definitions import passed
    from privet.report.terminal import card_table

    card = load_bundle(bundle).card
    answer(card, "the bundle is whole and well-formed", card_table(card), as_json=json)
    return 1 if passed(card.get("definitions")) is False else 0


def _speedups(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            f"--speedups takes numbers separated by commas, e.g. 50,100; got {text!r}"
        ) from None


def _bounds(text: str) -> dict[str, float]:
    try:
        pairs = (part.split("=") for part in text.split(",") if part)
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise OptionError(f"--bounds takes e.g. q=0.4,m=0.01; got {text!r}") from None
