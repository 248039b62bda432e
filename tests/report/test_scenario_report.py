"""Tables, sentences and plot of a scenario analysis, from its document alone."""

import numpy as np
import pytest

from privet.errors import DataError
from privet.report import render_html, scenarios

VARIANTS = ("dense", "one-shot", "one-shot-long", "iterative", "shuffled", "fresh")


def figure(mean, error=0.01):
    return {"mean": mean, "error": error}


def effect(mean, error, *, against="one-shot", counts=False, decides=True):
    return {
        "factor": "reuse",
        "against": against,
        "decides": decides,
        **figure(mean, error),
        "counts": counts,
    }


@pytest.fixture
def analysis():
    areas = np.linspace(0.5, 0.8, len(VARIANTS))
    return {
        "dataset": "location",
        "model": "fc",
        "defense": "base",
        "sparsity": 0.6,
        "rounds": 5,
        "repeats": 3,
        "epochs": 10,
        "members": 751,
        "nonmembers": 501,
        "attack": "mentr",
        "variants": [
            {
                "variant": name,
                "auc": {
                    "all": figure(area),
                    "lowest": figure(area - 0.1),
                    "highest": figure(area + 0.1, 0.023),
                },
                "auc_by_attack": {"mentr": figure(area)},
                "accuracy": figure(0.5474, 0.0123),
            }
            for name, area in zip(VARIANTS, areas, strict=True)
        ],
        "effects": [effect(0.0891, 0.0204, counts=True), effect(0.3, 0.01, counts=True)],
        "criteria": {"least_effect": 0.02, "least_errors": 2.0},
        "scenario": "data reuse",
        "recommendation": "rsw",
        "compare": ["distill", "auto"],
        "seconds": 33.1,
        "seed": 0,
    }


def test_the_table_has_a_row_for_each_variant(analysis):
    shown = scenarios.variants(analysis)
    assert [row[0] for row in shown.rows] == list(scenarios.VARIANTS.values())
    assert shown.rows[0][1:] == ("54.7% ± 1.2", "0.500 ± 0.010", "0.400 ± 0.010", "0.600 ± 0.023")
    assert "751 members, 501 nonmembers" in shown.note
    assert "mentr" in shown.note


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        (effect(0.0891, 0.0204, counts=True), "AUC +0.089 ± 0.020; it counts."),
        (effect(0.02, 0.001), "AUC +0.020 ± 0.001; it does not count, being at most 0.02."),
        (effect(-0.3, 0.001), "AUC -0.300 ± 0.001; it does not count, being at most 0.02."),
        (effect(0.08, 0.05), "it does not count, being within 2 standard errors."),
        (effect(0.5, 0.0, decides=False, counts=True), "AUC +0.500 ± 0.000; for comparison."),
        (effect(None, None), "not measured."),
    ],
)
def test_a_sentence_says_whether_an_effect_counts_and_why_not(entry, end, analysis):
    (sentence,) = scenarios.readings(analysis | {"effects": [entry]})
    assert sentence.startswith("Data reuse: iterative pruning against one-shot: ")
    assert sentence.endswith(end)


def test_the_verdict_names_the_method_and_what_to_hold_it_against(analysis):
    said = scenarios.verdict(analysis)
    assert said.startswith("Data reuse raises leakage, inherent memorability does not. ")
    assert "made for this is rsw" in said
    assert "distill and auto" in said
    plain = scenarios.verdict(analysis | {"scenario": "neither", "recommendation": "base"})
    assert "Base is enough" in plain
    assert "distill and auto" in plain


def test_a_page_has_the_plot_and_the_words(analysis):
    html = render_html(analysis, "analyse")
    assert html == render_html(analysis, "analyse")
    assert html.count("<svg") == 1
    assert "location: what makes pruning leak" in html
    assert "made for this is rsw" in html
    assert "AUC +0.089" in html
    for value in (0.4, 0.9):
        assert f"{value:.3f} ± " in html


def test_a_document_from_a_stranger_is_shown_not_run(analysis):
    evil = "<script>alert(1)</script>\x1b[31m"
    analysis.update(dataset=evil, attack=evil, scenario=evil, recommendation=evil, compare=[evil])
    analysis["variants"][0]["variant"] = evil
    analysis["effects"][0].update(factor=evil, against=evil)
    html = render_html(analysis, "analyse")
    assert "<script" not in html
    assert "\x1b" not in html


def test_a_document_without_its_parts_is_named(analysis):
    del analysis["effects"]
    with pytest.raises(DataError, match="effects"):
        render_html(analysis, "analyse")
