"""The gate's judgement: every figure by name, and nothing passes that is not known to."""

import json
from copy import deepcopy
from dataclasses import asdict
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.errors import DataError, OptionError
from privet.gate import Condition, judge, junit_xml, parse, read_audit
from privet.metrics import judge as judge_attack
from privet.report import wording


def rate(tpr, low, high, **more):
    return {"tpr": tpr, "low": low, "high": high, "resolved": True, **more}


UNRESOLVED = {"tpr": 0.0, "low": 0.0, "high": 0.01, "resolved": False}
CONF = {
    "attack": "conf",
    "balanced_accuracy": 0.61,
    "auc": 0.64,
    "tpr_at_fpr": {
        "0.1": rate(0.2, 0.18, 0.22),
        "0.01": rate(0.04, 0.03, 0.19),
        "0.001": UNRESOLVED,
    },
    "members": 2004,
    "nonmembers": 334,
    "seconds": 0.1,
}
LIRA = {
    **CONF,
    "attack": "lira",
    "balanced_accuracy": None,
    "auc": 0.7,
    "tpr_at_fpr": {
        "0.1": rate(0.3, 0.28, 0.32, band_high=0.4),
        "0.01": rate(0.123, 0.091, 0.16, band_low=0.004, band_high=0.25),
        "0.001": UNRESOLVED,
    },
}
AUDIT = {
    "dataset": "digits",
    "defense": "none",
    "pruner": "magnitude",
    "sparsity": 0.6,
    "train_accuracy": 0.875,
    "test_accuracy": 0.625,
    "adaptive": True,
    "findings": [CONF, LIRA],
}
RUN = {"kind": "prune", "result": {**{key: AUDIT[key] for key in list(AUDIT)[:6]}, "rounds": []}}


def side(text):
    return "max" if "<" in text else "min"


def outcome(text, audit=AUDIT):
    return judge([parse(text, side(text))], audit)[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("balanced_accuracy", 0.61),  # lira only ranks, and is left out
        ("auc", 0.7),
        ("tpr@0.01", 0.123),
        ("tpr@0.1", 0.3),
        ("tpr_high@0.01", 0.19),  # conf finds fewer, but less surely so
        ("conf:balanced_accuracy", 0.61),
        ("conf:auc", 0.64),
        ("conf:tpr@0.01", 0.04),
        ("lira:tpr_high@1e-2", 0.16),
        ("lira:tpr_band_high@0.01", 0.25),
        ("accuracy", 0.625),
        ("train_accuracy", 0.875),
        ("gap", 0.25),
        ("sparsity", 0.6),
    ],
)
def test_each_name_gives_its_figure(name, value):
    assert outcome(f"{name}<=0.99").value == value
    assert outcome(f"{name} <= {value}").passed
    assert outcome(f"{name} >= {value}").passed
    assert not outcome(f"{name} < {value}").passed
    assert not outcome(f"{name} > {value}").passed


@pytest.mark.parametrize(
    ("condition", "line"),
    [
        (
            "tpr@0.01<=0.05",
            "FAIL tpr@0.01 <= 0.05: lira finds 12.3% [0.4, 25.0] of 2,004 members "
            "(highest of 2 attacks)",
        ),
        (
            "conf:tpr@0.01<0.05",
            "ok conf:tpr@0.01 < 0.05: conf finds 4.0% [3.0, 19.0] of 2,004 members",
        ),
        (
            "tpr_high@0.01 <= 0.2",
            "ok tpr_high@0.01 <= 0.2: conf may find up to 19.0% of 2,004 members "
            "if its threshold is right (highest of 2 attacks)",
        ),
        (
            "lira:tpr_band_high@0.01 <= 0.3",
            "ok lira:tpr_band_high@0.01 <= 0.3: lira may find up to 25.0% of 2,004 members",
        ),
        (
            "balanced_accuracy<=0.55",
            "FAIL balanced_accuracy <= 0.55: conf reaches 0.610 (the only attack)",
        ),
        ("accuracy>=0.60", "ok accuracy >= 0.6: 0.625"),
        (
            "tpr@0.001<=0.5",
            "FAIL tpr@0.001 <= 0.5: 0.1% FPR cannot be resolved with 334 nonmembers; "
            "it takes 1,000",
        ),
        (
            "tpr@0.05<=0.5",
            "FAIL tpr@0.05 <= 0.5: conf was not judged at 5% FPR; its levels are: 10%, 1%, 0.1%",
        ),
        (
            "rmia:auc<=0.9",
            "FAIL rmia:auc <= 0.9: the audit holds no attack called rmia, only conf, lira",
        ),
        (
            "lira:balanced_accuracy<=1",
            "FAIL lira:balanced_accuracy <= 1.0: lira only ranks and makes no decisions that "
            "could be right",
        ),
        (
            "tpr_band_high@0.01<=1",
            "FAIL tpr_band_high@0.01 <= 1.0: the audit gives no band for conf; ask for tpr_high, "
            "or audit again",
        ),
    ],
)
def test_one_line_of_reason(condition, line):
    assert str(outcome(condition)) == line


@pytest.mark.parametrize("operator", ["<=", ">="])
def test_one_attack_that_cannot_be_judged_is_one_too_many(operator):
    audit = deepcopy(AUDIT)
    audit["findings"][0]["tpr_at_fpr"]["0.01"] = UNRESOLVED
    assert outcome("lira:tpr@0.01<=0.5", audit).passed
    for name in ("tpr@0.01", "tpr_high@0.01", "conf:tpr@0.01"):
        found = outcome(f"{name}{operator}{'1' if operator == '<=' else '0'}", audit)
        assert (found.passed, found.value) == (False, None)
        assert "resolved" in found.reason


def test_a_tpr_that_does_not_say_whether_it_is_resolved_is_counted():
    audit = json.loads(json.dumps(AUDIT))
    for finding in audit["findings"]:
        for entry in finding["tpr_at_fpr"].values():
            del entry["resolved"]
    assert outcome("tpr@0.01<=1", audit).passed  # 334 nonmembers: more than 100
    assert not outcome("tpr@0.001<=1", audit).passed


def test_accuracies_that_the_document_lacks_fail():
    audit = {"findings": [CONF], "train_accuracy": 0.9}
    assert not outcome("accuracy>=0", audit).passed
    assert not outcome("gap<=1", audit).passed
    assert "test accuracy" in outcome("gap<=1", audit).reason
    assert outcome("train_accuracy>=0.9", audit).passed


def test_attacks_that_all_only_rank_cannot_be_judged_by_balanced_accuracy():
    found = outcome("balanced_accuracy<=1", {"findings": [LIRA]})
    assert (found.passed, found.value) == (False, None)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["<=", "<", ">=", ">"]))
def test_what_is_shown_is_on_the_figures_side_of_the_bound(value, bound, operator):
    found = outcome(f"accuracy {operator} {bound!r}", {**AUDIT, "test_accuracy": value})
    holds = {"<=": value <= bound, "<": value < bound, ">=": value >= bound, ">": value > bound}
    assert found.passed == holds[operator]
    shown = float(found.reason)
    assert found.condition.holds(shown) == found.passed
    assert shown == pytest.approx(value, abs=5.1e-4)


@given(
    st.sampled_from(["balanced_accuracy", "auc", "lira:auc", "nn-top3 : auc", "accuracy", "gap"]),
    st.sampled_from([("max", "<="), ("max", "<"), ("min", ">="), ("min", ">")]),
    st.floats(0, 1),
    st.sampled_from(["", " ", "\t "]),
)
def test_blanks_do_not_matter_and_text_parses_again(name, how, bound, blank):
    side, operator = how
    read = parse(f"{blank}{name}{blank}{operator}{blank}{bound!r}{blank}", side)
    assert (read.name, read.operator, read.bound) == (name.replace(" ", ""), operator, bound)
    assert parse(str(read), side) == read


def test_a_condition_at_an_fpr():
    read = parse(" lira : tpr_high @ 1e-2 <0.25", "max")
    assert read == Condition("tpr_high", "<", 0.25, attack="lira", fpr=0.01)
    assert str(read) == "lira:tpr_high@0.01 < 0.25"


@pytest.mark.parametrize(
    ("text", "side", "words"),
    [
        ("tpr@0.01=0.05", "max", ["'='", "'tpr@0.01=0.05'", "<= or <"]),
        ("tpr@0.01==0.05", "max", ["'=='"]),
        ("tpr@0.01>=0.05", "max", ["'>='", "<= or <"]),
        ("accuracy<=0.6", "min", ["'<='", ">= or >"]),
        ("accuracy", "min", ["'accuracy'", "quotes"]),
        ("", "max", ["''"]),
        ("<=0.5", "max", ["''"]),
        ("accurracy>=0.5", "min", ["'accurracy'", "train_accuracy"]),
        ("tpr<=0.5", "max", ["'tpr'", "@FPR"]),
        ("auc@0.1<=0.5", "max", ["'auc@0.1'", "@FPR"]),
        ("lira:accuracy<=0.5", "max", ["'lira:accuracy'"]),
        (":auc<=0.5", "max", ["':auc'"]),
        ("a:b:auc<=0.5", "max", ["'a:b:auc'"]),
        ("li\x1bra:auc<=0.5", "max", [r"\x1b"]),
        ("tpr@0<=0.5", "max", ["FPR '0'"]),
        ("tpr@1<=0.5", "max", ["FPR '1'"]),
        ("tpr@nan<=0.5", "max", ["FPR 'nan'"]),
        ("tpr@1%<=0.5", "max", ["FPR '1%'"]),
        ("auc<=1.01", "max", ["'1.01'"]),
        ("auc<=-0.1", "max", ["'-0.1'"]),
        ("auc<=nan", "max", ["'nan'"]),
        ("auc<=", "max", ["bound ''"]),
        ("auc<=5%", "max", ["'5%'"]),
        ("0.5<=auc<=0.6", "max", ["'0.5'"]),
    ],
)
def test_conditions_that_make_no_sense_are_refused(text, side, words):
    with pytest.raises(OptionError) as refused:
        parse(text, side)
    message = str(refused.value)
    assert message.startswith(f"--{side} takes e.g. ")
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), []),
        (("findings",), []),
        (("findings",), {}),
        (("findings", 0), "conf"),
        (("findings", 0), None),
        (("findings", 0, "attack"), 7),
        (("findings", 0, "attack"), "co\x00nf"),
        (("findings", 0, "auc"), "0.6"),
        (("findings", 0, "auc"), None),
        (("findings", 0, "auc"), True),
        (("findings", 0, "auc"), float("nan")),
        (("findings", 0, "auc"), 1.5),
        (("findings", 0, "auc"), 10**400),
        (("findings", 0, "balanced_accuracy"), "n/a"),
        (("findings", 0, "members"), "2004"),
        (("findings", 0, "members"), 0),
        (("findings", 0, "nonmembers"), 33.4),
        (("findings", 0, "tpr_at_fpr"), [0.1]),
        (("findings", 0, "tpr_at_fpr", "0.1"), 0.2),
        (("findings", 0, "tpr_at_fpr", "often"), rate(0.2, 0.1, 0.3)),
        (("findings", 0, "tpr_at_fpr", "0.1", "tpr"), None),
        (("findings", 0, "tpr_at_fpr", "0.1", "high"), 0.19),  # below the TPR itself
        (("findings", 0, "tpr_at_fpr", "0.1", "low"), -0.1),
        (("findings", 0, "tpr_at_fpr", "0.1", "band_high"), 0.1),
        (("findings", 0, "tpr_at_fpr", "0.1", "band_low"), 0.21),
        (("findings", 0, "tpr_at_fpr", "0.1", "resolved"), "yes"),
        (("test_accuracy",), "0.6"),
    ],
)
def test_documents_that_are_no_audit_are_refused(path, value):
    audit = deepcopy(AUDIT)
    part = audit
    for key in path[:-1]:
        part = part[key]
    if path:
        part[path[-1]] = value
    else:
        del audit["findings"]
    with pytest.raises(DataError) as refused:
        outcome("accuracy>=0", audit)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def folder(path, run=RUN, audit=AUDIT):
    for name, document in (("run.json", run), ("audit.json", audit)):
        if document is not None:
            (path / name).write_text(json.dumps(document))
    return path


def test_a_folder_gives_the_audit_of_its_run(tmp_path):
    assert read_audit(folder(tmp_path)) == AUDIT


@pytest.mark.parametrize("adaptive", [{}, {"adaptive": None}, {"adaptive": True}])
def test_an_audit_by_itself_may_say_less(adaptive, tmp_path):
    audit = {"findings": [CONF], **adaptive}
    (tmp_path / "mine.json").write_text(json.dumps(audit))
    assert read_audit(tmp_path / "mine.json") == audit


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audit": None}, ["not been audited", "privet audit"]),
        ({"run": None}, ["run.json"]),
        ({"run": {**RUN, "kind": "protect"}}, ["no run of privet prune"]),
        ({"run": {**RUN, "result": None}}, ["not finished"]),
        ({"run": [RUN]}, ["no run"]),
        ({"audit": [AUDIT]}, ["no findings"]),
        ({"audit": {**AUDIT, "adaptive": False}}, ["--non-adaptive"]),
        ({"audit": {**AUDIT, "adaptive": None}}, ["--non-adaptive"]),
        ({"audit": {**AUDIT, "dataset": "location"}}, ["another run", "dataset", "'location'"]),
        ({"audit": {**AUDIT, "defense": "rsw"}}, ["another run", "defense"]),
        ({"audit": {**AUDIT, "pruner": "structural"}}, ["another run", "pruner"]),
        ({"audit": {**AUDIT, "sparsity": 0.9}}, ["another run", "sparsity"]),
        ({"audit": {**AUDIT, "test_accuracy": 0.626}}, ["another run", "test_accuracy", "0.626"]),
        ({"audit": {**AUDIT, "train_accuracy": 1.0}}, ["another run", "train_accuracy"]),
        ({"audit": {key: AUDIT[key] for key in AUDIT if key != "defense"}}, ["defense is None"]),
    ],
)
def test_folders_that_cannot_be_judged_are_refused(changes, words, tmp_path):
    with pytest.raises(DataError) as refused:
        read_audit(folder(tmp_path, **changes))
    message = str(refused.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_the_interval_is_the_one_that_the_audit_shows():
    members = np.arange(600) < 300
    scores = members + np.random.default_rng(0).normal(size=600)
    entry = asdict(judge_attack(scores, members).tpr_at_fpr[0.01])
    finding = {**CONF, "tpr_at_fpr": {"0.01": entry}}
    shown = wording.rate(entry, fpr=0.01, nonmembers=300)
    assert (entry["band_low"], entry["band_high"]) != (entry["low"], entry["high"])
    assert f"finds {shown} of" in outcome("tpr@0.01 <= 1", {"findings": [finding]}).reason


def test_junit_counts_and_tells():
    texts = ["auc<=0.65", "accuracy>=0.6", "tpr@0.001<=0.5"]
    root = Xml.fromstring(junit_xml([outcome(text) for text in texts]))  # noqa: S314
    suite = root.find("testsuite")
    assert suite.get("name") == "privet gate"
    for element in (root, suite):
        assert [element.get(key) for key in ("tests", "failures", "errors", "time")] == [
            "3",
            "2",
            "0",
            "0",
        ]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [
        "auc <= 0.65",
        "accuracy >= 0.6",
        "tpr@0.001 <= 0.5",
    ]
    assert [case.find("failure") is not None for case in cases] == [True, False, True]
    assert "334 nonmembers" in cases[2].find("failure").get("message")
    assert cases[0].find("failure").text == str(outcome(texts[0]))
