"""What people pass may be lists and names with blanks; what cannot be read is told in one line."""

import os
import stat

import numpy as np
import pytest

from privet.device import Bundle, Settings, write_bundle
from privet.device.rules import features_named
from privet.errors import DataError, OptionError


@pytest.mark.parametrize("mechanism", ["targets", "answers"])
def test_records_may_be_lists(guesser, ratings, key, mechanism):
    bundle = Bundle("attribute", guesser, settings=Settings(mechanism=mechanism))
    rows = ratings[:4].astype(np.float64)
    expected = bundle.protect(rows, budget=2.0, key=key)
    release = bundle.protect(rows.tolist(), budget=[2, 2.0, 2, 2], key=key)
    np.testing.assert_array_equal(release.records, expected.records)
    np.testing.assert_array_equal(bundle.posterior(rows.tolist()), bundle.posterior(rows))


def test_confidences_may_be_lists(detector, key):
    bundle = Bundle("membership", detector, settings=Settings(max_steps=20))
    rows = np.random.default_rng(0).dirichlet(np.ones(8), 3)
    expected = bundle.protect(rows, budget=0.4, key=key)
    given = bundle.protect(rows.tolist(), budget=0.4, key=key, identity=[[1], [2], [3]])
    assert given.expected_cost == pytest.approx(expected.expected_cost)


def test_lists_that_are_no_table_are_refused(guesser, key):
    bundle = Bundle("attribute", guesser)
    for rows, match in (([[0.1] * 300, [0.2]], "equal length"), ([["x"] * 300], "must be numbers")):
        with pytest.raises(DataError, match=match):
            bundle.protect(rows, budget=1.0, key=key)


@pytest.mark.parametrize("budget", ["x", [1, "x"], None, object(), [10**400], [[1], [1, 2]]])
def test_budgets_that_are_no_numbers_are_refused(guesser, detector, ratings, key, budget):
    with pytest.raises(OptionError, match="budget must be"):
        Bundle("attribute", guesser).protect(ratings[:2], budget=budget, key=key)
    confidences = np.full((2, 8), 1 / 8)
    with pytest.raises(OptionError, match="budget must be"):
        Bundle("membership", detector).protect(confidences, budget=budget, key=key)


def test_features_are_called_without_blanks_around_their_names():
    names = (" last ", "first", "\N{NO-BREAK SPACE}0")
    for wanted, column in ((" last ", 0), ("last", 0), ("first ", 1), ("0", 2), ("1", 1)):
        assert np.flatnonzero(features_named([wanted], 3, names)).tolist() == [column]
    with pytest.raises(OptionError, match="no feature ' other '"):
        features_named([" other "], 3, names)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_membership_bundle_is_as_private_as_its_key(guesser, detector, tmp_path):
    bundles = {
        "attribute": Bundle("attribute", guesser),
        "membership": Bundle("membership", detector),
    }
    for kind, expected in (("attribute", 0o644), ("membership", 0o600)):
        path = tmp_path / kind
        for _ in range(2):
            write_bundle(bundles[kind], path)
            assert stat.S_IMODE(path.stat().st_mode) == expected
            path.chmod(0o644)  # left by an older version, say
