"""What protection changed, record by record: as JSON for programs, or as text for people.

Either is for the person's eyes only, since it tells noise from data.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from privet.device.network import Array, Ints, softmax
from privet.device.protect import Bundle, Release

DIGITS = 6
HEAD = """\
What protection changed, and what can be guessed before and after.
Record 1 is the first of the file; records that are not named stayed as they were.
For your eyes only: this tells what is noise and what is true.
"""


@dataclass(frozen=True)
class Report:
    """Writes what was changed to ``file``, a block at a time.

    Parameters
    ----------
    file
        Where to write.
    bundle
        What the records are protected with.
    readable
        A text in plain words, of changed records only; else a JSON list of all records, with
        these fields:

        - ``record``: its number, from 0
        - ``target``: attribute: the class that the changes aim at; membership: the predicted class
        - ``reached``, ``cost``, ``expected_cost``: see `Release`
        - attribute only, ``guess`` and ``guess_after``: the defense model's guess at the record
          as it was, and as it is released
        - ``posterior_before``, ``posterior_after``: how sure the defense model is of ``guess``
          before and after; membership: of the record being a member's
        - attribute only, ``changes``: ``feature`` (its name, or number), ``before``, ``after``
    """

    file: TextIO
    bundle: Bundle
    readable: bool

    def add(self, block: Array, release: Release, *, first: int, logits: bool = False) -> None:
        """Report on some records, the first of them number ``first``."""
        if self.readable and not first:
            self.file.write(HEAD)
        for entry in describe(self.bundle, block, release, first=first, logits=logits):
            if not self.readable:
                self.file.write((",\n" if entry["record"] else "[\n") + json.dumps(entry))
            elif entry["cost"]:
                self.file.write("\n" + _in_words(entry))

    def end(self, summary: Mapping[str, Any]) -> None:
        """Finish with what `protect_file` returns."""
        if not self.readable:
            self.file.write("\n]\n")
            return
        n, changed = summary["records"], summary["changed"]
        what = "changed entries" if self.bundle.kind == "attribute" else "L1 distance"
        self.file.write(
            f"\nOf {n:,} records, {changed:,} changed and {n - changed:,} stayed as they were.\n"
            f"On average a record took {_spelled(summary['mean_cost'])} ({what}); "
            f"{_spelled(summary['mean_expected_cost'])} was to be expected, within the budget of "
            f"{_spelled(summary['budget'])}.\n"
        )


def describe(
    bundle: Bundle, block: Array, release: Release, *, first: int, logits: bool = False
) -> Iterator[dict[str, Any]]:
    """Say of each record what was changed and why; the fields are those of `Report`."""
    ratings = bundle.kind == "attribute"
    before = bundle.posterior(softmax(block) if logits else block)
    after = bundle.posterior(release.records)
    rows = np.arange(len(block))
    guess = before.argmax(axis=1) if ratings else rows
    if ratings:
        guess_after = after.argmax(axis=1)
        before, after = before[rows, guess], after[rows, guess]
        changes = _changes(bundle, block, release)
    for row in rows.tolist():
        entry: dict[str, Any] = {
            "record": first + row,
            "target": _class(bundle, release.target, row),
            "reached": bool(release.reached[row]),
            "cost": release.cost[row].item(),
            "expected_cost": float(release.expected_cost[row]),
        }
        if ratings:
            entry["guess"] = _class(bundle, guess, row)
            entry["guess_after"] = _class(bundle, guess_after, row)
        entry["posterior_before"] = round(float(before[row]), DIGITS)
        entry["posterior_after"] = round(float(after[row]), DIGITS)
        if ratings:
            entry["changes"] = changes[row]
        yield entry


def _class(bundle: Bundle, classes: Ints, row: int) -> str | int:
    number = int(classes[row])
    return bundle.class_names[number] if bundle.class_names else number


def _changes(bundle: Bundle, block: Array, release: Release) -> list[list[dict[str, Any]]]:
    """List each record's changed entries in ascending order of the features."""
    rows, features = np.nonzero(block != release.records)
    before, after = block[rows, features].tolist(), release.records[rows, features].tolist()
    changes: list[list[dict[str, Any]]] = [[] for _ in block]
    names = bundle.feature_names
    for row, feature, old, new in zip(rows.tolist(), features.tolist(), before, after, strict=True):
        called = names[feature] if names else feature
        changes[row].append({"feature": called, "before": float(old), "after": float(new)})
    return changes


def _in_words(entry: Mapping[str, Any]) -> str:
    """Describe a changed record in two lines; names are quoted, so that they stay on theirs."""
    number, before, after = (
        entry["record"] + 1,
        f"{entry['posterior_before']:.1%}",
        f"{entry['posterior_after']:.1%}",
    )
    if "changes" not in entry:
        return (
            f"Record {number}: it looked like one of the training set with {before}, and now does "
            f"with {after}.\n  Noise of {_spelled(entry['cost'])} was added (L1 distance); the "
            f"prediction stays {entry['target']!r}.\n"
        )
    now = f"still {entry['guess']!r}, with {after}"
    if entry["guess_after"] != entry["guess"]:
        now = f"now {entry['guess_after']!r}, with {after} for {entry['guess']!r}"
    moved = "; ".join(
        f"{change['feature']!r} {_spelled(change['before'])} -> {_spelled(change['after'])}"
        for change in entry["changes"]
    )
    count = f"{entry['cost']} change" + "s" * (entry["cost"] > 1)
    return (
        f"Record {number}: the guess was {entry['guess']!r} with {before}; it is {now}.\n"
        f"  {count} towards {entry['target']!r}: {moved}\n"
    )


def _spelled(value: float) -> str:
    """Spell a number for people: 0.8 where float32 says 0.800000011920929."""
    return f"{value:.6g}"
