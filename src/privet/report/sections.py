"""What a page says: its sections, each a heading over prose, figures and tables.

Every figure comes with a sentence on how to read it and has its numbers in a table nearby.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from privet.report import (
    attacker,
    comparison,
    definitions,
    exposure,
    grouped,
    memorization,
    overall,
    plots,
    scenarios,
    tables,
    tuning,
    wording,
)
from privet.report.blocks import Block, Commands, Facts, Fold, Numbers, Plot, Prose, Section

Document = Mapping[str, Any]


GUESSING = (
    Prose(
        "A membership attack asks of a record: was it in the training data? Balanced accuracy is "
        "how often the attack is right, averaged over members and nonmembers. 50% (0.5) is what "
        "guessing achieves, 100% is certainty."
    ),
    Prose(
        "AUC is the chance that a random member looks more like a member than a random "
        "nonmember does; 0.5 is guessing. TPR at 1% FPR is the share of members found when at "
        "most one nonmember in a hundred may be accused wrongly; guessing finds 1%. It matters "
        "most: an average can look harmless while a few people are fully exposed."
    ),
)


def run(document: Document) -> list[Section]:
    """Return the sections on one pruning run, its audit and its search, which may be absent."""
    pruned, audit, searched = document["prune"], document.get("audit"), document.get("tune")
    facts = [
        ("test accuracy", wording.percent(pruned["test_accuracy"])),
        ("train accuracy", wording.percent(pruned["train_accuracy"])),
        ("sparsity", wording.percent(pruned["sparsity"])),
    ]
    if pruned.get("nonzero") is not None:
        facts.append(("parameters left", wording.count(pruned["nonzero"])))
    opening = Section("At a glance", (Facts(tuple(facts)), Prose(_verdict(audit))))
    if audit is None:
        leaks: tuple[Block, ...] = (
            Prose(
                "This run has not been audited, so nothing is known about what it leaks. To find "
                "out, let privet's audit command judge the folder of this run."
            ),
        )
    else:
        leaks = (*GUESSING, *_audited(audit, identity="audit"))
    return [
        opening,
        Section("What leaks", leaks),
        *(_exposed(audit) if audit is not None else []),
        Section("Round by round", tuple(_pruned(pruned, identity="run"))),
        *([tuning.section(searched, "How the settings were chosen")] if searched else []),
        _settings([("Pruning", pruned), ("Audit", audit)]),
    ]


def protect(document: Document) -> list[Section]:
    """Return the sections on one protection build."""
    return [
        Section("What the protection does", tuple(_protected(document))),
        _settings([("Protection", document)]),
    ]


def analyse(document: Document) -> list[Section]:
    """Return the sections on one scenario analysis."""
    plot = Plot(
        scenarios.plot(document, identity="variants"),
        "One row a way of pruning. The farther right of the dotted line at 0.5 (guessing), the "
        "more the pruned network tells about who was in the training data. Where rounds on the "
        "same rows lie right of the other rows, reusing data leaks; where upward triangles lie "
        "right of downward ones, samples that models easily learn by heart do. Bars are one "
        "standard error.",
    )
    blocks: list[Block] = [Prose(scenarios.verdict(document)), plot]
    blocks.append(Numbers(scenarios.variants(document)))
    blocks += [Prose(sentence) for sentence in scenarios.readings(document)]
    return [
        Section("What raises leakage", tuple(blocks)),
        _settings([("Analysis", document)]),
    ]


def demo(document: Document) -> list[Section]:
    """Return the sections of the guided tour: defenses compared, then the protection."""
    pruning = document["pruning"]
    plot = Plot(
        plots.leakage_by_defense(pruning, identity="defenses"),
        "Each row is one defense. Left, each gray dot is one attack and the diamond is the most "
        "accurate one; the closer to the dotted line at 50% (guessing), the less leaks. Right, "
        "the bar is how often the pruned model is right on new data. Good is left on the left, "
        "long on the right.",
    )
    exposed = comparison.exposed(pruning)
    compared: list[Block] = [*GUESSING, plot, *([Prose(exposed)] if exposed else [])]
    compared.append(Numbers(comparison.comparison(pruning)))
    for place, entry in enumerate(pruning):
        blocks = list(_pruned(entry["prune"], identity=f"run-{place}"))
        if entry.get("audit") is not None:
            blocks += [
                Prose(_verdict(entry["audit"])),
                *_audited(entry["audit"], identity=f"audit-{place}"),
            ]
        summary = f"Defense {entry['prune']['defense']}: every round and every attack"
        compared.append(Fold(summary, tuple(blocks)))
    own = {key: document[key] for key in ("seed", "seconds", "versions") if key in document}
    parts = [("Tour", own), ("Protection", document["protection"])]
    for entry in pruning:
        name = entry["prune"]["defense"]
        parts += [(f"Pruning, {name}", entry["prune"]), (f"Audit, {name}", entry.get("audit"))]
    return [
        Section("Pruning without remembering people", tuple(compared)),
        Section("Protecting a person's own data", tuple(_protected(document["protection"]))),
        Section("What to try next", (Commands(tuple(map(str, document["next"]))),)),
        _settings(parts),
    ]


def _verdict(audit: Document | None) -> str:
    if audit is None:
        return "Not audited yet."
    found = audit["findings"]
    worst, ranked = overall.strongest(found, "balanced_accuracy"), overall.strongest(found, "auc")
    parts = [f"Attacks run: {len(found)}."]
    if worst is not None:
        parts.append(
            f"The most accurate, {worst['attack']}, tells members from nonmembers correctly "
            f"{wording.percent(worst['balanced_accuracy'])} of the time; guessing is 50.0%."
        )
    if ranked is not None:
        parts.append(
            f"The highest AUC is {wording.decimal(ranked['auc'])} ({ranked['attack']}); "
            "guessing is 0.500."
        )
    parts += [exposure.flattering(found), *attacker.knowledge(audit)]
    parts.append("An audit shows the least that leaks: an attack nobody has run may find more.")
    return " ".join(part for part in parts if part)


def _pruned(pruned: Document, *, identity: str) -> Sequence[Block]:
    return (
        Plot(
            plots.rounds(pruned, identity=f"{identity}-rounds"),
            "From left to right, more weights are removed. The train line is accuracy on the "
            "data the model learned from, the dev line on data it did not; the gap between them "
            "is what a membership attack feeds on.",
        ),
        Numbers(tables.rounds(pruned)),
        *_memorized(pruned, identity=identity),
    )


def _memorized(pruned: Document, *, identity: str) -> Sequence[Block]:
    if not pruned.get("scores"):
        return ()
    drawn = memorization.plot(pruned, identity=f"{identity}-scores")
    return (Plot(drawn, memorization.caption(pruned)),)


def _audited(audit: Document, *, identity: str) -> Sequence[Block]:
    blocks: list[Block] = [
        Plot(
            plots.leakage_by_attack(audit, identity=f"{identity}-attacks"),
            "One row an attack, the strongest on top. The farther right of the dotted line at "
            "0.5 (guessing), the more it learns about who was in the training data.",
        )
    ]
    if any(finding.get("roc") for finding in audit["findings"]):
        blocks.append(
            Plot(
                plots.roc(audit, identity=f"{identity}-roc"),
                "Each curve is one attack: how many members it finds, for a given share of "
                "nonmembers wrongly accused. A curve above the dotted diagonal beats guessing. "
                "Toward the left edge hardly anyone is accused wrongly, so each member found "
                "there is found with confidence; both axes are logarithmic to show this corner.",
            )
        )
    sources = Fold("Sources, sample sizes and times", (Numbers(tables.attacks(audit)),))
    return (*blocks, Numbers(tables.audit(audit)), sources)


def _exposed(audit: Document) -> Sequence[Section]:
    """Return the sections on groups of samples, those that the audit has anything on."""
    blocks: list[Block] = []
    memorized = grouped.by_memorization(audit)
    if memorized is not None:
        blocks += [
            Plot(
                grouped.plot(memorized, identity="memorization"),
                "Samples are divided by how strongly models memorize them when they train on "
                "them, as the shadow models tell; the target is not asked. In each group, "
                "members are told from the group's own nonmembers. Where a line climbs to the "
                "right, the samples that are memorized most are exposed most. Bars are 95% "
                "intervals.",
            ),
            Numbers(grouped.numbers(memorized)),
        ]
    tabled = (exposure.most_exposed(audit), exposure.worst_classes(audit))
    blocks += [Numbers(shown) for shown in tabled if shown is not None]
    found = [Section("Who is exposed", tuple(blocks))] if blocks else []
    planted = exposure.canaries(audit)
    if planted is not None:
        lead = Prose(
            "Canaries are samples with a wrong label. Nothing but training on a canary teaches a "
            "model its label, so they stand for the people whom a model remembers most and an "
            "average hides. Some were planted in the training data, the others held out; an "
            "attack should not be able to tell which."
        )
        words = (lead, Prose(exposure.canary_verdict(audit)), Numbers(planted))
        found.append(Section("Planted canaries", words))
    return found


def _protected(build: Document) -> Sequence[Block]:
    against = build.get("attack") or {}
    name = f" ({against['name']})" if against.get("name") else ""
    if build["kind"] == "attribute":
        aim = f"An attacker{name} reads a private attribute off a person's record."
        budget = "how many entries of a record may change, on average"
    else:
        aim = f"An attacker{name} reads off a model's answer whether a record trained the model."
        budget = "how far an answer may move (L1 distance), on average"
    blocks: list[Block] = [
        Prose(
            f"{aim} The noise in a bundle, added on the person's own device, misleads it. Each "
            "tier is a smaller bundle, for a weaker device. The less often the attack is right, "
            "the better; the budget bounds " + budget + "."
        )
    ]
    undrawn = overall.undrawn(build)
    if overall.budgets(build):
        different = overall.different_users(build)
        blocks += [
            Plot(
                plots.attack_by_budget(build, identity="budget"),
                "Lower is more private. The dashed line is the attack without protection, the "
                "dotted line an attacker who always gives the most common answer: below it, "
                f"looking at the data no longer pays. The budget is {budget}. "
                f"{different} {undrawn}".strip(),
            ),
            Numbers(tables.by_budget(build)),
        ]
    blocks += [
        Plot(
            plots.accuracy_by_parameters(build, identity="tiers"),
            "Each dot is a tier, the square the unpruned defense model. Farther left is "
            f"smaller; as high as the dotted line is as accurate as unpruned. {undrawn}".strip(),
        ),
        Numbers(tables.tiers(build)),
    ]
    return (*blocks, *_defined(build))


def _defined(build: Document) -> Sequence[Block]:
    if not build.get("definitions"):
        return ()
    shown = definitions.definitions(build)
    return (Prose(definitions.verdict(build)), Numbers(shown))


def _settings(parts: Sequence[tuple[str, Document | None]]) -> Section:
    folds = [
        Fold(name, (Numbers(tables.settings(part, title=f"{name}: settings")),))
        for name, part in parts
        if part
    ]
    lead = Prose("Settings, seeds and versions, as the document states them.")
    return Section("How this was made", (lead, *folds))
