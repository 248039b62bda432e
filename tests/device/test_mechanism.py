import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.device.mechanism import choose, least_divergence, load_or_create_key, uniform
from privet.errors import DataError, OptionError


def divergence(prior, psi):
    used = prior > 0
    return (prior[used] * np.log(prior[used] / psi[..., used])).sum(axis=-1)


def test_prior_within_budget_is_the_answer():
    prior = np.array([0.5, 0.3, 0.2])
    psi = least_divergence(prior, np.array([[0, 2, 4], [0, 1, 1]]), 1.4)
    np.testing.assert_allclose(psi, [prior, prior], atol=1e-15)


def test_two_targets_in_closed_form():
    # Costs 0 and c: the whole expected cost is psi_1 c = budget.
    psi = least_divergence([0.4, 0.6], np.array([[0, 10]]), 1.5)
    np.testing.assert_allclose(psi, [[0.85, 0.15]], atol=1e-12)


def test_agrees_with_a_convex_solver():
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.ones(8))
    costs = rng.integers(1, 9, size=(12, 8)).astype(float)
    costs[np.arange(12), rng.integers(8, size=12)] = 0
    budget = rng.uniform(0.3, 4, size=12)
    psi = least_divergence(prior, costs, budget)
    for row in range(12):
        variable = cp.Variable(8)
        objective = cp.Maximize(prior @ cp.log(variable))
        limits = [cp.sum(variable) == 1, costs[row] @ variable <= budget[row]]
        cp.Problem(objective, limits).solve(solver=cp.CLARABEL)
        np.testing.assert_allclose(psi[row], variable.value, atol=1e-4)
        assert divergence(prior, psi[row]) <= divergence(prior, variable.value) + 1e-7


def test_zero_prior_takes_only_what_is_left_over():
    # Only the unused target 0 is cheap: half of the mass must go there to keep to the budget.
    psi = least_divergence([0, 0.5, 0.5], np.array([[0, 2, 2], [3, 0, 4]]), 1.0)
    np.testing.assert_allclose(psi[0], [0.5, 0.25, 0.25], atol=1e-12)
    np.testing.assert_allclose(psi[1], [0, 0.75, 0.25], atol=1e-12)


def test_impossible_budget_names_record_and_least_budget():
    costs = np.array([[0, 5], [3, 5], [9, 9]])
    with pytest.raises(OptionError, match=r"record 1 .* above 3"):
        least_divergence([0.5, 0.5], costs, 2.0)
    with pytest.raises(OptionError, match=r"record 2 .* above 9"):
        least_divergence([0.5, 0.5], costs, [2, 4, 5])


def test_bad_input_is_refused():
    for prior in ([0.5, 0.6], [1.5, -0.5], [1.0], [np.nan, 1.0]):
        with pytest.raises(DataError, match="prior"):
            least_divergence(prior, np.ones((1, 2)), 3)
    for budget in (np.nan, -1, np.inf, [1, 2]):
        with pytest.raises(OptionError, match="budget"):
            least_divergence([0.5, 0.5], np.ones((1, 2)), budget)
    with pytest.raises(DataError, match="costs"):
        least_divergence([0.5, 0.5], np.array([[0, np.inf]]), 3)


weights = st.one_of(st.just(0.0), st.floats(1e-35, 1e-6), st.floats(0.01, 1))


@given(
    st.lists(weights, min_size=2, max_size=6).filter(lambda w: sum(w) > 0.01),
    st.integers(0, 2**32 - 1),
    st.floats(1e-6, 50),
)
@settings(max_examples=300, deadline=None)
def test_always_a_distribution_within_budget(prior, seed, budget):
    rng = np.random.default_rng(seed)
    p = np.array(prior) / sum(prior)
    costs = rng.integers(0, 60, size=(20, len(p))) * rng.integers(0, 2, size=(20, len(p)))
    costs[:, rng.integers(len(p))] = 0
    psi = least_divergence(p, costs, budget)
    assert (psi >= 0).all()
    np.testing.assert_allclose(psi.sum(axis=1), 1, atol=1e-12)
    assert ((psi * costs).sum(axis=1) <= budget + 1e-9).all()
    binding = costs @ p > budget
    np.testing.assert_allclose((psi * costs).sum(axis=1)[binding], budget, atol=1e-7)
    assert (psi[:, p > 1e-9] > 0).all()


def test_choose_follows_the_distribution_and_skips_zeros():
    psi = np.tile([0.0, 0.25, 0.0, 0.75, 0.0], (40000, 1))
    u = np.random.default_rng(0).random(40000)
    u[:2] = 0.0, np.nextafter(1, 0)
    columns = choose(psi, u)
    assert columns[0] == 1
    assert columns[1] == 3
    np.testing.assert_allclose(np.bincount(columns) / 40000, [0, 0.25, 0, 0.75], atol=0.01)


def test_uniform_depends_on_key_and_record_only(key):
    rng = np.random.default_rng(0)
    x = (rng.random((3000, 50)) < 0.1) * rng.integers(1, 6, (3000, 50)) / 5
    u = uniform(key, x)
    assert len(np.unique(u)) > 2900
    assert 0 <= u.min() < 0.01 < 0.99 < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(u[::-1], uniform(key, x[::-1]))
    np.testing.assert_array_equal(u, uniform(key, x.astype(np.float32)))
    np.testing.assert_array_equal(u, uniform(key, np.where(x == 0, -0.0, x)))
    np.testing.assert_array_equal(u, uniform(key, sp.csr_matrix(x)))
    np.testing.assert_array_equal(u, uniform(key, sp.csc_array(x)))
    other = uniform(bytes(32), x)
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.06
    moved = uniform(key, np.roll(x, 1, axis=1))
    assert abs(np.corrcoef(u, moved)[0, 1]) < 0.06


def test_uniform_is_the_documented_number(key):
    # HMAC-SHA256 of the domain, index 2 as uint32 and 0.5 as float32, both little-endian.
    import hashlib
    import hmac

    message = b"privet one-time randomness 1\n" + b"\x02\0\0\0" + b"\0\0\0\x3f"
    digest = hmac.new(key, message, hashlib.sha256).digest()
    expected = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    assert uniform(key, np.array([[0, 0, 0.5, 0]]))[0] == expected


@pytest.mark.parametrize("bad", [b"short", "x" * 32, None, bytearray(32)])
def test_uniform_refuses_other_keys(bad):
    with pytest.raises(OptionError, match="key"):
        uniform(bad, np.ones((1, 2)))


def test_key_file_is_private_random_and_stable(tmp_path):
    path = tmp_path / "new" / "key"
    created = load_or_create_key(path)
    assert len(created) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(str(path)) == created
    assert load_or_create_key(tmp_path / "other") != created


def test_unusable_key_files_are_refused(tmp_path):
    path = tmp_path / "key"
    for content in (b"", b"x" * 31, b"x" * 33):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(OptionError, match="32 bytes"):
            load_or_create_key(path)
    with pytest.raises(OptionError, match="folder"):
        load_or_create_key(tmp_path)
    if os.name == "posix":
        with pytest.raises(OptionError, match="device"):
            load_or_create_key("/dev/null")


def test_a_kill_while_the_key_is_made_leaves_no_half_of_one(tmp_path, monkeypatch):
    def killed(*_):
        raise SystemExit

    for step in ("fsync", "link"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, killed)
            with pytest.raises(SystemExit):
                load_or_create_key(tmp_path / "key")
        assert list(tmp_path.iterdir()) == []
    assert len(load_or_create_key(tmp_path / "key")) == 32


def test_all_who_create_a_key_at_once_get_the_same(tmp_path):
    for attempt in range(20):
        together = threading.Barrier(8)

        def create(path=tmp_path / f"key{attempt}", together=together):
            together.wait()
            return load_or_create_key(path)

        with ThreadPoolExecutor(8) as pool:
            keys = [each.result() for each in [pool.submit(create) for _ in range(8)]]
        assert set(keys) == {(tmp_path / f"key{attempt}").read_bytes()}
    assert len(list(tmp_path.iterdir())) == 20


def test_the_loser_of_a_race_reads_the_winners_key(tmp_path, monkeypatch):
    path, link = tmp_path / "key", os.link

    def late(source, target):
        path.write_bytes(b"w" * 32)
        path.chmod(0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert load_or_create_key(path) == b"w" * 32
    assert list(tmp_path.iterdir()) == [path]


def test_file_systems_without_links_get_a_key_too(tmp_path, monkeypatch):
    def unsupported(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    created = load_or_create_key(tmp_path / "key")
    assert load_or_create_key(tmp_path / "key") == created
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "key"
    load_or_create_key(path)
    path.chmod(0o640)
    with pytest.raises(OptionError, match="chmod 600"):
        load_or_create_key(path)
