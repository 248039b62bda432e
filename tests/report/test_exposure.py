import pytest

from privet.report import exposure, grouped


def rate(tpr, low, high, *, resolved=True):
    return {"tpr": tpr, "band_low": low, "band_high": high, "resolved": resolved}


@pytest.fixture
def audit(run):
    """Attacks that all find as much: 4% of the members at 1% FPR, and an AUC of 0.6."""
    for finding in run["audit"]["findings"]:
        finding["tpr_at_fpr"]["0.01"] = rate(0.04, 0.02, 0.06)
        finding.update(auc=0.6, auc_low=0.58, auc_high=0.62)
    return run["audit"]


def named(audit, attack):
    return next(finding for finding in audit["findings"] if finding["attack"] == attack)


def test_attacks_that_find_as_much_flatter_no_one(audit):
    assert exposure.flattering(audit["findings"]) == ""


def test_a_calibrated_attack_that_finds_clearly_more_is_called_out(audit):
    named(audit, "lira")["tpr_at_fpr"]["0.01"] = rate(0.25, 0.2, 0.31)
    assert exposure.flattering(audit["findings"]) == (
        "Averages flatter: lira, which judges each sample by what other models answer on it, "
        "finds 25.0% [20.0, 31.0] at 1% FPR; the strongest attack that treats all samples "
        "alike, conf, finds 4.0% [2.0, 6.0] at 1% FPR."
    )


def test_an_auc_that_is_clearly_higher_is_called_out_too(audit):
    named(audit, "rmia").update(auc=0.7, auc_low=0.68, auc_high=0.72)
    words = exposure.flattering(audit["findings"])
    assert "rmia, which judges each sample" in words
    assert "has an AUC of 0.700 [0.68, 0.72]" in words
    assert words.endswith("conf, has an AUC of 0.600 [0.58, 0.62].")


@pytest.mark.parametrize(
    "change",
    [
        lambda lira: lira["tpr_at_fpr"].update({"0.01": rate(0.25, 0.06, 0.31)}),
        lambda lira: lira["tpr_at_fpr"].update({"0.01": rate(0.25, 0.2, 0.31, resolved=False)}),
        lambda lira: lira["tpr_at_fpr"].update({"0.01": rate(0.25, None, None)}),
        lambda lira: lira.update(auc=0.7, auc_low=0.62, auc_high=0.75),
        lambda lira: lira.update(auc=0.7, auc_low=None),
        lambda lira: lira.update(attack="conf-2", auc=0.7, auc_low=0.68, auc_high=0.72),
    ],
)
def test_nothing_is_called_out_that_is_not_clear(audit, change):
    change(named(audit, "lira"))
    assert exposure.flattering(audit["findings"]) == ""


def test_nothing_is_called_out_without_both_kinds_of_attacks(audit):
    for finding in audit["findings"]:
        finding["attack"] = "lira"
    assert exposure.flattering(audit["findings"]) == ""
    assert exposure.flattering([]) == ""


def test_the_most_exposed_are_ranked_by_their_smallest_share_then_by_agreement(audit):
    for finding in audit["findings"]:
        finding["most_exposed"] = []
    conf, entr, gap = (named(audit, name) for name in ("conf", "entr", "gap"))
    conf["most_exposed"] = [{"sample": 7, "fpr": 0.0025}, {"sample": 5, "fpr": 0.3}]
    entr["most_exposed"] = [{"sample": 3, "fpr": 0.0}, {"sample": 7, "fpr": 0.0}]
    gap["most_exposed"] = [{"sample": 0, "fpr": 0.4}, {"sample": 7, "fpr": 0.4}]
    assert exposure.most_exposed(audit).rows == (
        ("7", "0 of 400", "entr", "2"),
        ("3", "0 of 400", "entr", "1"),
        ("5", "120 of 400", "conf", "0"),
        ("0", "160 of 400", "gap", "0"),
    )


def test_the_list_of_the_most_exposed_is_short(audit):
    for place, finding in enumerate(audit["findings"]):
        for entry in finding["most_exposed"]:
            entry["sample"] += place
    assert len(exposure.most_exposed(audit).rows) == exposure.MOST_SAMPLES


def test_the_worst_classes_are_those_of_the_strongest_attack(audit):
    named(audit, "nn")["auc"] = 0.9
    classes = named(audit, "nn")["breakdowns"]["class"]
    classes[3].update(auc=0.99, auc_low=0.9, auc_high=1.0)
    classes[4]["auc"] = None
    classes[5]["auc"] = 0.0
    shown = exposure.worst_classes(audit)
    assert shown.rows[0] == ("class 3", "30", "12", "0.990 [0.90, 1.00]")
    assert [row[0] for row in shown.rows[1:3]] == ["class 11", "class 10"]
    assert len(shown.rows) == exposure.MOST_CLASSES
    assert "10 of 11 classes, by the AUC of nn" in shown.note


def test_canaries_are_shown_at_the_lowest_fpr_that_their_number_supports(audit):
    shown = exposure.canaries(audit)
    assert shown.title == "Attacks on canaries: 150 planted, 150 held out"
    assert [row[0] for row in shown.rows][:2] == ["rmia", "lira"]
    assert shown.columns[2:] == ("TPR at 10% FPR", "TPR at 1% FPR")
    assert "TPR at 0.1% FPR: needs \u2265 1,000 nonmembers, there are 150." in shown.note
    assert exposure.canary_verdict(audit).endswith("rmia finds 63.1% [37.9, 94.6] at 10% FPR.")
    for finding in audit["findings"]:
        finding["breakdowns"]["canaries"][0]["nonmembers"] = 99
    assert "rmia has an AUC of" in exposure.canary_verdict(audit)


def test_what_older_audits_do_not_hold_is_left_out(older):
    audit = older["audit"]
    for made in (
        exposure.most_exposed(audit),
        exposure.worst_classes(audit),
        exposure.canaries(audit),
        grouped.by_memorization(audit),
    ):
        assert made is None
    assert exposure.canary_verdict(audit) == ""
    # Clopper-Pearson's interval serves where there is no band.
    for finding in audit["findings"]:
        high = 0.9 if finding["attack"] == "lira" else 0.1
        finding["tpr_at_fpr"]["0.01"] = {"tpr": high, "low": high, "high": high, "resolved": True}
    assert "lira" in exposure.flattering(audit["findings"])


def test_groups_are_shown_for_the_strongest_attacks(audit):
    named(audit, "samia")["auc"] = 0.8
    made = grouped.by_memorization(audit)
    assert [attack for attack, _ in made.rows] == ["samia", "conf", "entr", "mentr"]
    assert made.measure == "TPR at 1% FPR"
    shown = grouped.numbers(made)
    assert shown.columns == ("attack", "lowest", "2 of 4", "3 of 4", "highest")
    first = audit["findings"][0]["breakdowns"]["memorization"][0]["tpr_at_fpr"]["0.01"]["tpr"]
    assert shown.rows[1][1].startswith(f"{first:.1%} [")


def test_groups_that_do_not_resolve_an_fpr_are_shown_by_auc(audit):
    audit["findings"][0]["breakdowns"]["memorization"][2]["tpr_at_fpr"] = None
    made = grouped.by_memorization(audit)
    assert made.measure == "AUC"
    assert grouped.numbers(made).rows[0][4].startswith("0.588 [0.54, 0.63]")
