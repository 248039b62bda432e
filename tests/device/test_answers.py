"""Phase II by the answers that attackers are believed to give, against convex optimization."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.plain_loops import plain_answers, softmax
from privet.device.answers import least_divergence_of_answers
from privet.device.mechanism import least_divergence
from privet.device.paths import search_paths
from privet.errors import DataError, OptionError


def divergence(prior, answers, psi, column=None):
    """KL(prior || what an attacker sees), of each record; shape (n,)."""
    if column is not None:
        answers = np.take_along_axis(answers, column[:, :, None], axis=1)
    mixed = (psi[:, :, None] * answers).sum(axis=1)
    prior = np.broadcast_to(prior, mixed.shape)
    used = prior > 0
    return (np.where(used, prior, 0) * np.log(np.where(used, prior / mixed, 1))).sum(axis=1)


def ours(prior, answers, costs, budget, **options):
    column, psi = least_divergence_of_answers(prior, answers, costs, budget, **options)
    return divergence(prior, answers, psi, column)


def random_problem(rng, *, n, classes, stops, sharp=2.0):
    """Answers that lean more and more towards one class after the other, and their costs."""
    away = rng.normal(0, sharp, (n, 1, 1, classes))
    steps = np.arange(1, stops + 1)[:, None] * np.eye(classes)[:, None]
    ways = away + sharp * rng.uniform(0.2, 1, (n, classes, 1, 1)) * steps
    logits = np.concatenate([away[:, 0], ways.reshape(n, classes * stops, classes)], axis=1)
    answers = np.array([[softmax(each) for each in record] for record in logits])
    costs = np.tile([0.0, *np.tile(np.arange(1.0, stops + 1), classes)], (n, 1))
    costs[:, 1:][rng.random((n, classes * stops)) < 0.1] = np.inf
    return answers, costs


@pytest.fixture(scope="module")
def paths(guesser, ratings):
    ((_, paths),) = search_paths(guesser, ratings, steps=8)
    return paths


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 30))
@settings(max_examples=60, deadline=None)
def test_where_lies_are_always_believed_it_is_the_papers_mechanism(seed, budget):
    rng = np.random.default_rng(seed)
    n, classes = 8, 6
    label = rng.integers(classes, size=n)
    order = np.array([[each, *np.delete(np.arange(classes), each)] for each in label])
    costs = np.column_stack([np.zeros(n), rng.integers(1, 20, (n, classes - 1))])
    prior = rng.dirichlet(np.ones(classes), size=n)
    column, psi = least_divergence_of_answers(prior, np.eye(classes)[order], costs, budget)
    np.testing.assert_array_equal(column, np.tile(np.arange(classes), (n, 1)))
    expected = least_divergence(np.take_along_axis(prior, order, axis=1), costs, budget)
    np.testing.assert_allclose(psi, expected, atol=1e-9)


def test_two_candidates_in_closed_form():
    # Seen are (0.9, 0.1) or (0.3, 0.7): the prior (0.6, 0.4) is half of each, at a cost of 2.
    answers = np.array([[[0.9, 0.1], [0.3, 0.7]]])
    for budget, share in ((1.5, 0.5), (1.0, 0.5), (0.6, 0.3), (0.02, 0.01)):
        _, psi = least_divergence_of_answers([0.6, 0.4], answers, [[0, 2]], budget, rounds=3000)
        np.testing.assert_allclose(psi, [[1 - share, share]], atol=1e-6)


def optimum(prior, answers, costs, budget):
    """The least divergence by a convex solver, for one record."""
    cp = pytest.importorskip("cvxpy")
    there = np.isfinite(costs)
    psi = cp.Variable(there.sum(), nonneg=True)
    objective = cp.Maximize(prior @ cp.log(answers[there].T @ psi))
    cp.Problem(objective, [cp.sum(psi) == 1, costs[there] @ psi <= budget]).solve(cp.CLARABEL)
    return divergence(prior, answers[None, there], psi.value[None])[0]


def test_close_to_what_a_convex_solver_finds():
    rng = np.random.default_rng(0)
    answers, costs = random_problem(rng, n=15, classes=4, stops=4)
    prior = rng.dirichlet(np.ones(4), size=15)
    budget = rng.choice([0.05, 0.3, 1.0, 2.5, 6.0], size=15)
    least = np.array([optimum(prior[i], answers[i], costs[i], budget[i]) for i in range(15)])
    usual = ours(prior, answers, costs, budget)
    patient = ours(prior, answers, costs, budget, rounds=2000)
    assert (least <= np.minimum(usual, patient) + 1e-6).all()  # or the oracle is none
    assert least.max() > 0.5
    assert (usual - least).max() < 0.03
    assert (usual - least).mean() < 0.005
    assert (patient - least).mean() < 0.002


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("budget", [0.1, 1.0, 3.0, 6.0, 100.0])
def test_keeping_few_candidates_loses_almost_nothing(paths, temperature, budget):
    """Six of eight stops a way are as good as others: what one class needs must not be dropped."""
    prior = np.array([0.3, 0.25, 0.2, 0.15, 0.08, 0.02])
    answers, costs = paths.answers(temperature, 0.0)[:15], paths.cost[:15]
    column, psi = least_divergence_of_answers(prior, answers, costs, budget)
    assert column.shape == psi.shape == (15, 7)
    all_of_them = plain_answers(prior, answers, costs, budget, rounds=100)
    lost = divergence(prior, answers, psi, column) - divergence(prior, answers, all_of_them)
    assert lost.max() < 0.05
    assert lost.mean() < 0.006


def as_documented(prior, answers, costs, budget):
    """What docs/bundle-format.md says, for one record: the candidates kept and their psi."""
    classes = len(prior)
    there = np.isfinite(costs)
    w, r = there / there.sum(), np.where(there, costs, 0) / budget
    column, a, q = np.arange(len(costs)), answers, 1.0
    for number in range(1, 61):
        q = 1e-100 if number in (1, 21, 41) else q
        for _ in range(4):
            f = q * sum(w * (r - 1) / (q + (1 - q) * r))
            slope = sum(w * (r - 1) * r / (q + (1 - q) * r) ** 2)
            q = min(1, max(1e-100, q - f / slope)) if slope > 1e-100 else 1
        q = 1 if sum(w * r) <= 1 else q
        psi = w / (q + (1 - q) * r)
        psi /= sum(psi)
        mixed = psi @ a
        w = psi * (a @ (prior / mixed))
        w /= sum(w)
        if number in (20, 40):
            kept = {0, *((w * a[:, k]).argmax() for k in range(classes))}
            for c in np.argsort(-w):
                if len(kept) < (2 if number == 20 else 1) * classes + 1:
                    kept.add(c)
            kept = sorted(kept)
            column, a, w, r = column[kept], a[kept], w[kept] / sum(w[kept]), r[kept]
    return column, least_divergence(w, r[None] * budget, budget)[0]


def test_the_document_says_all_there_is_to_do(paths):
    prior = np.array([0.3, 0.25, 0.2, 0.15, 0.08, 0.02])
    answers, costs = paths.answers(1.5, 0.1)[:20], paths.cost[:20]
    for budget in (0.1, 1.0, 4.0, 100.0):
        column, psi = least_divergence_of_answers(prior, answers, costs, budget)
        for i in range(20):
            numbers, shares = as_documented(prior, answers[i], costs[i], budget)
            np.testing.assert_array_equal(column[i], numbers)
            np.testing.assert_allclose(psi[i], shares, atol=1e-9)


def test_the_divergence_falls_with_every_round():
    rng = np.random.default_rng(1)
    answers, costs = random_problem(rng, n=40, classes=5, stops=1)
    prior = rng.dirichlet(np.ones(5))
    for budget in (0.05, 0.4, 5.0):
        by_round = np.array([
            ours(prior, answers, costs, budget, rounds=rounds) for rounds in range(1, 50)
        ])  # fmt: skip
        assert np.diff(by_round, axis=0).max() < 1e-6
        assert (by_round[0] - by_round[-1]).mean() > 1e-3


@pytest.mark.parametrize("leak", [0.0, 0.3])
@pytest.mark.parametrize("budget", [0.2, 1.0, 3.0, 8.0])
def test_better_by_its_own_measure_than_the_papers_mechanism(paths, budget, leak):
    prior = np.array([0.3, 0.25, 0.2, 0.15, 0.08, 0.02])
    answers, costs = paths.answers(1.5, leak), paths.cost
    # The paper's candidates: where each way first says its target, or its end.
    said = paths.logits[:, 1:].argmax(axis=2).reshape(60, 6, 8)
    first = np.where((said == np.arange(6)[:, None]).any(axis=2),
                     (said == np.arange(6)[:, None]).argmax(axis=2), 7)  # fmt: skip
    column = 1 + 8 * np.arange(6) + first
    column[np.arange(60), paths.label] = 0
    cost = paths.candidates(column).cost
    paper = divergence(prior, answers, least_divergence(prior, cost, budget), column)
    found = ours(prior, answers, costs, budget)
    assert (found <= paper + 1e-3).all()
    assert found.mean() < 0.99 * paper.mean()


@given(
    seed=st.integers(0, 2**32 - 1),
    budget=st.floats(1e-6, 50),
    peak=st.sampled_from([0.1, 3.0, 1e3]),
    rounds=st.sampled_from([1, 2, 9, 60]),
)
@settings(max_examples=150, deadline=None)
def test_always_a_distribution_within_budget(seed, budget, peak, rounds):
    rng = np.random.default_rng(seed)
    n, count, classes = 8, rng.integers(1, 30), rng.integers(2, 7)
    logits = rng.normal(0, peak, (n, count, classes))
    answers = np.array([[softmax(each) for each in record] for record in logits])
    costs = rng.integers(0, 12, (n, count)).astype(float)
    costs[rng.random((n, count)) < 0.3] = np.inf
    costs[:, 0] = 0
    prior = rng.dirichlet(np.full(classes, rng.choice([0.05, 1.0])), size=n)
    prior = prior[0] if seed % 3 == 0 else prior
    budgets = budget * rng.uniform(0.5, 2, n) if seed % 2 else budget
    column, psi = least_divergence_of_answers(prior, answers, costs, budgets, rounds=rounds)
    assert column.shape == psi.shape == (n, min(count, classes + 1))
    assert (column[:, 0] == 0).all()
    assert (np.diff(column, axis=1) > 0).all()
    assert column.max() < count
    assert (psi >= 0).all()
    np.testing.assert_allclose(psi.sum(axis=1), 1, atol=1e-12)
    spent = np.take_along_axis(costs, column, axis=1)
    assert (psi[np.isinf(spent)] == 0).all()
    spent = (psi * np.where(np.isinf(spent), 0, spent)).sum(axis=1)
    assert (spent <= np.multiply(budgets, 1 + 1e-9) + 1e-12).all()


def test_records_do_not_look_at_each_other():
    rng = np.random.default_rng(5)
    answers, costs = random_problem(rng, n=12, classes=4, stops=5)
    prior, budget = rng.dirichlet(np.ones(4), size=12), rng.uniform(0.1, 5, 12)
    column, psi = least_divergence_of_answers(prior, answers, costs, budget)
    for i in range(12):
        one = slice(i, i + 1)
        alone = least_divergence_of_answers(prior[i], answers[one], costs[one], float(budget[i]))
        np.testing.assert_array_equal(alone[0], column[one])
        np.testing.assert_allclose(alone[1], psi[one], atol=1e-9)


def test_what_nobody_can_be_made_to_answer_is_left_out_of_account():
    # No candidate is ever taken for class 2: as close as can be to the rest of the prior.
    answers = np.array([[[1.0, 0, 0], [0, 1.0, 0]]])
    _, psi = least_divergence_of_answers([0.3, 0.1, 0.6], answers, [[0, 1]], 5.0)
    np.testing.assert_allclose(psi, [[0.75, 0.25]], atol=1e-9)
    # And where that is all that is wanted, nothing can be better than anything else.
    _, psi = least_divergence_of_answers([0, 0, 1.0], answers, [[0, 1]], 0.1)
    assert (psi >= 0).all()
    assert psi[0, 1] <= 0.1 + 1e-12
    np.testing.assert_allclose(psi.sum(), 1)


def test_bad_input_is_refused():
    answers, costs = np.full((2, 3, 2), 0.5), np.array([[0.0, 1, 2], [0, 1, np.inf]])
    even = [0.5, 0.5]
    least_divergence_of_answers(even, answers, costs, 1.0)
    for wrong in (answers[:1], answers[:, :2], answers[0]):
        with pytest.raises(DataError, match="do not fit together"):
            least_divergence_of_answers(even, wrong, costs, 1.0)
    for wrong in (costs + 1, costs - [0, 2, 0], costs * [1, np.nan, 1], costs + np.inf):
        with pytest.raises(DataError, match="candidate 0 must cost nothing"):
            least_divergence_of_answers(even, answers, wrong, 1.0)
    for prior in ([0.5, 0.6], [1.0], [[0.5, 0.5]] * 3, [np.nan, 1.0]):
        with pytest.raises(DataError, match="prior"):
            least_divergence_of_answers(prior, answers, costs, 1.0)
    for budget in (0, -1, np.nan, np.inf, [1, 2, 3], [1.0, 0.0]):
        with pytest.raises(OptionError, match="budget"):
            least_divergence_of_answers(even, answers, costs, budget)
