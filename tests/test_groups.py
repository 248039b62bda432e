from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import make_evidence
from privet.errors import EvidenceError
from privet.groups import Grouping, by_class, by_quantile, canaries, estimated_memorization
from privet.signals import Evidence, Signals


def two_class(confidences):
    """Signals of models that give the true class, 0, these confidences."""
    p = np.asarray(confidences, dtype=float)
    logits = np.log(np.stack([p, 1 - p], axis=2))
    return Signals(logits, np.zeros(p.shape[1], dtype=int))


def test_classes_go_by_their_names_or_numbers():
    labels = np.array([2, 0, 2])
    assert by_class(labels).names == ("0", "1", "2")
    grouping = by_class(labels, ["cat", "dog", "eel"])
    assert grouping.kind == "class"
    groups = {name: inside.tolist() for name, inside in grouping.each()}
    assert groups == {"cat": [False, True, False], "eel": [True, False, True]}


def test_a_class_without_a_name_is_refused():
    with pytest.raises(EvidenceError, match=r"class must lie in -1..1; got 0..2"):
        by_class(np.array([0, 2]), ["cat", "dog"])


@pytest.mark.parametrize("group", [np.array([[0]]), np.array([0.0]), np.array([-2, 0])])
def test_groups_that_are_no_positions_are_refused(group):
    with pytest.raises(EvidenceError, match="groups by mine"):
        Grouping("mine", ("one",), group)


def test_quartiles_of_distinct_values_are_quarters():
    values = np.random.default_rng(0).permutation(np.arange(100.0))
    grouping = by_quantile(values)
    assert grouping.kind == "memorization"
    assert grouping.names == ("lowest", "2 of 4", "3 of 4", "highest")
    np.testing.assert_array_equal(grouping.group, values // 25)


def test_two_parts_are_the_lowest_and_the_highest():
    grouping = by_quantile(np.array([3.0, 1.0, 2.0]), kind="age", parts=2)
    assert (grouping.kind, grouping.names) == ("age", ("lowest", "highest"))
    assert grouping.group.tolist() == [1, 0, 0]


@given(
    st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf, np.nan]), max_size=40),
    st.integers(2, 6),
)
def test_quantiles_keep_ties_together_and_the_order_of_values(values, parts):
    numbers = np.array(values, dtype=float)
    group = by_quantile(numbers, parts=parts).group
    assert ((group == -1) == np.isnan(numbers)).all()
    known = ~np.isnan(numbers)
    for one, of in zip(numbers[known], group[known], strict=True):
        assert (group[numbers == one] == of).all()
        assert (group[known & (numbers < one)] <= of).all()
        # No part but by ties holds more than its share.
        lower = (numbers[known] < one).sum()
        assert of <= lower * parts / known.sum()


def test_one_part_is_no_division():
    with pytest.raises(EvidenceError, match="at least 2 parts; got 1"):
        by_quantile(np.zeros(3), parts=1)


def test_canaries_are_one_group_and_everyone_else_in_none():
    grouping = canaries(np.array([True, False, True]))
    assert grouping.kind == "canaries"
    assert grouping.group.tolist() == [0, -1, 0]


def test_memorization_is_the_confidence_gained_by_training_on_a_sample():
    target = two_class([[0.5, 0.5, 0.5, 0.5]])
    reference = two_class([[0.9, 0.2, 0.6, 0.7], [0.7, 0.4, 0.6, 0.1], [0.2, 0.8, 0.6, 0.3]])
    members = np.array([[1, 0, 1, 1], [1, 0, 0, 1], [0, 1, 1, 1]], dtype=bool)
    evidence = Evidence(target, reference=reference, reference_members=members)
    # 0.8 - 0.2; 0.8 - 0.3; equal on both sides; nobody left out.
    np.testing.assert_allclose(estimated_memorization(evidence), [0.6, 0.5, 0.0, np.nan])


def test_memorization_is_found_where_it_was_made():
    evidence, _ = make_evidence(leak=3.0, seed=0, shadows=8)
    spared, _ = make_evidence(leak=0.0, seed=0, shadows=8)
    assert np.nanmean(estimated_memorization(evidence)) > 0.3
    assert abs(np.nanmean(estimated_memorization(spared))) < 0.02


def test_memorization_does_not_depend_on_the_target():
    evidence, _ = make_evidence(leak=1.0, seed=0, samples=200)
    other, _ = make_evidence(leak=1.0, seed=1, samples=200)
    swapped = replace(
        evidence,
        target=Signals(other.target.logits, evidence.target.labels),
        releases=(),
    )
    np.testing.assert_array_equal(estimated_memorization(swapped), estimated_memorization(evidence))


def test_nothing_is_known_of_memorization_offline_or_without_reference_models():
    evidence, _ = make_evidence(leak=1.0, seed=0, samples=50)
    offline = replace(evidence, reference_members=np.zeros_like(evidence.reference_members))
    assert np.isnan(estimated_memorization(offline)).all()
    assert (by_quantile(estimated_memorization(offline)).group == -1).all()
    with pytest.raises(EvidenceError, match="reference models"):
        estimated_memorization(Evidence(evidence.target))
