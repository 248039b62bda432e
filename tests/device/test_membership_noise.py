import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from device.plain_loops import plain_noise
from privet.device import Bundle, Network, Settings
from privet.device.membership import find_noise, log_confidences, release_probability
from privet.device.network import softmax
from privet.errors import DataError, OptionError


def test_same_noise_as_the_plain_loop(detector, logits):
    noise = find_noise(detector, logits[:40], max_steps=120)
    assert noise.found.mean() > 0.9
    for row in range(40):
        expected = plain_noise(detector, logits[row], max_steps=120)
        assert noise.found[row] == (expected is not None)
        if expected is not None:
            np.testing.assert_allclose(noise.after[row], expected, atol=1e-5)


def test_same_noise_as_autograd_on_the_printed_loss(detector, logits):
    torch = pytest.importorskip("torch")
    layers = zip(detector.weights, detector.biases, strict=True)
    pairs = [(torch.tensor(w), torch.tensor(b)) for w, b in layers]

    def h(s):
        s = s.float()
        for w, b in pairs[:-1]:
            s = torch.relu(s @ w.T + b)
        return (s @ pairs[-1][0].T + pairs[-1][1])[0]

    def flip(z, c3, steps):
        origin = torch.softmax(z, dim=0)
        e = torch.zeros_like(z, requires_grad=True)
        for _ in range(steps + 1):
            v = z + e
            s = torch.softmax(v, dim=0)
            if v.argmax() == len(v) - 1 and float(h(origin)) * float(h(s.detach())) <= 0:
                return s.detach().numpy()
            loss = (
                h(s).abs() + 10 * torch.relu(v[:-1].max() - v[-1]) + c3 * (s - origin).abs().sum()
            )
            (gradient,) = torch.autograd.grad(loss, e)
            e = (e - 0.1 * gradient / gradient.norm()).detach().requires_grad_()
        return None

    z = np.sort(logits[:8], axis=1)
    ours = find_noise(detector, z, max_steps=40)
    assert ours.found.all()
    for row in range(8):
        expected = None
        for c3 in (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5):
            s = flip(torch.tensor(z[row]), c3, 40)
            if s is None:
                break
            expected = s
        np.testing.assert_allclose(ours.after[row], expected, atol=1e-5)


def test_wide_layers_leave_out_only_units_that_are_off(logits):
    rng = np.random.default_rng(3)
    shapes = [(90, 8), (70, 90), (5, 70), (1, 5)]
    weights = [rng.normal(0, np.sqrt(2 / s[1]), s).astype("f4") for s in shapes]
    biases = [rng.normal(-0.3, 0.2, s[0]).astype("f4") for s in shapes]
    answers = Network(tuple(weights), tuple(biases)).logits(np.sort(softmax(logits), axis=1))
    biases[-1] -= np.median(answers).astype("f4")
    net = Network(tuple(weights), tuple(biases))
    noise = find_noise(net, logits[:25], max_steps=80)
    assert noise.found.mean() > 0.3
    for row in range(25):
        expected = plain_noise(net, logits[row], max_steps=80)
        expected = noise.before[row] if expected is None else expected
        np.testing.assert_allclose(noise.after[row], expected, atol=1e-5)
    biases[0] -= 100
    none = find_noise(Network(tuple(weights), tuple(biases)), logits[:25], max_steps=80)
    assert not none.found.any()


def test_found_noise_flips_the_decision_and_keeps_the_label(detector, logits):
    noise = find_noise(detector, logits)
    assert noise.found.mean() > 0.95
    hit = noise.found
    assert (np.sign(noise.g_before - 0.5) != np.sign(noise.g_after - 0.5))[hit].all()
    np.testing.assert_array_equal(noise.after.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_array_equal(noise.label, logits.argmax(axis=1))
    np.testing.assert_allclose(noise.before, softmax(logits))
    np.testing.assert_allclose(noise.distance, abs(noise.after - noise.before).sum(axis=1))
    assert (noise.distance[hit] > 0).all()


def test_later_rounds_shrink_the_distortion(detector, logits, monkeypatch):
    whole = find_noise(detector, logits)
    monkeypatch.setattr("privet.device.membership_rounds.DISTORTION_WEIGHTS", (0.1,))
    first = find_noise(detector, logits)
    np.testing.assert_array_equal(whole.found, first.found)
    assert whole.distance.mean() < first.distance.mean()


def test_one_by_one_equals_all_at_once(detector, logits):
    together = find_noise(detector, logits[:30], max_steps=99)
    for row in range(30):
        alone = find_noise(detector, logits[row : row + 1], max_steps=99)
        assert alone.found[0] == together.found[row]
        np.testing.assert_allclose(alone.after[0], together.after[row], atol=1e-5)


def test_zero_gradient_and_indifference_mean_no_noise():
    flat = [np.zeros((4, 6), "f4"), np.zeros((1, 4), "f4")]
    for bias in (1.0, 1e-6, 0.0):
        net = Network(tuple(flat), (np.zeros(4, "f4"), np.array([bias], "f4")))
        noise = find_noise(net, np.random.default_rng(0).normal(size=(5, 6)))
        assert not noise.found.any()
        np.testing.assert_array_equal(noise.after, noise.before)
        assert (release_probability(noise, 1.0) == 0).all()


def test_release_probability_keeps_expected_distance_within_budget(detector, logits):
    noise = find_noise(detector, logits)
    for budget in (0.0, 0.1, 0.5, 2.0):
        p = release_probability(noise, budget)
        assert ((p >= 0) & (p <= 1)).all()
        assert (p * noise.distance <= budget + 1e-12).all()
        better = abs(noise.g_after - 0.5) < abs(noise.g_before - 0.5)
        np.testing.assert_array_equal(p[~better], 0)
        np.testing.assert_array_equal(p[better & (noise.distance <= budget)], 1)


extremes = st.one_of(
    st.floats(-50, 50),
    st.sampled_from([-1e4, -50.0, 0.0, 50.0, 1e4, 1e-300, 700.0, -745.0, 1e6, 1e300]),
)


@given(hnp.arrays(np.float64, (5, 8), elements=extremes), st.floats(0, 2), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_any_logits_give_probability_vectors_of_the_same_label(detector, z, budget, secret):
    bundle = Bundle("membership", detector, settings=Settings(max_steps=25))
    key = bytes([secret]) * 32
    release = bundle.protect(z, budget=budget, key=key, logits=True)
    before = softmax(z)
    assert (release.records >= 0).all()
    np.testing.assert_allclose(release.records.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(release.records.argmax(axis=1), before.argmax(axis=1))
    assert (release.expected_cost <= budget + 1e-9).all()
    np.testing.assert_allclose(release.cost, abs(release.records - before).sum(axis=1), atol=1e-9)
    again = bundle.protect(z, budget=budget, key=key, logits=True)
    np.testing.assert_array_equal(release.records, again.records)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 3.0, 30.0, 1e4]))
@settings(max_examples=25, deadline=None)
def test_naming_the_classes_in_another_order_changes_nothing_else(detector, seed, scale):
    rng = np.random.default_rng(seed)
    z, names = rng.normal(0, scale, (6, 8)), rng.permutation(8)
    noise, renamed = (find_noise(detector, each, max_steps=40) for each in (z, z[:, names]))
    np.testing.assert_array_equal(noise.found, renamed.found)
    np.testing.assert_allclose(noise.after[:, names], renamed.after, atol=1e-12)
    np.testing.assert_array_equal(noise.label, names[renamed.label])


@pytest.mark.parametrize("scale", [1, 3, 8])
def test_near_one_hot_vectors_get_the_plain_loops_noise_as_long_as_it_can_count(
    detector, logits, scale
):
    z = logits[:25] * scale
    noise = find_noise(detector, z, max_steps=150)
    # Closer to one-hot, the plain loop's gradient is rounding error.
    sound = np.flatnonzero(1 - noise.before.max(axis=1) > 1e-9)
    assert len(sound) >= 8
    for row in sound:
        expected = plain_noise(detector, z[row], max_steps=150)
        assert noise.found[row] == (expected is not None)
        if expected is not None:
            np.testing.assert_allclose(noise.after[row], expected, atol=1e-4)


def test_one_hot_vectors_within_reach_are_flipped_with_the_label_kept():
    # h = 10 (s_last - 0.8): the label's log-odds must fall from 20 or 30 to 1.39.
    weights = (np.eye(4, dtype="f4"), np.array([[0, 0, 0, 10]], "f4"))
    net = Network(weights, (np.zeros(4, "f4"), np.array([-8], "f4")))
    noise = find_noise(net, np.array([[20.0, 0, 0, 0], [0, 30, 0, 0], [0, 0, 1e4, 0]]))
    np.testing.assert_array_equal(noise.found, [True, True, False])
    np.testing.assert_array_equal(noise.label, [0, 1, 2])
    lead = noise.after[[0, 1], [0, 1]]
    assert ((lead <= 0.8) & (lead > 0.5)).all()
    np.testing.assert_array_equal(noise.after[2], noise.before[2])


def test_a_decision_of_exactly_one_half_counts_as_flipped():
    # h = relu(s_last - 0.9) is never negative.
    weights = (np.array([[0, 0, 1]], "f4"), np.array([[1]], "f4"))
    net = Network(weights, (np.array([-0.9], "f4"), np.zeros(1, "f4")))
    noise = find_noise(net, np.array([[0.0, 0.5, 4.0]]))
    assert noise.found[0]
    assert noise.g_before[0] > 0.5
    assert noise.g_after[0] == 0.5


def test_the_label_is_kept_where_losing_it_would_be_the_easiest_flip():
    # h grows with the least of the two leaders; it changes sign far beyond their tie.
    weights = (np.array([[0, 0, 1]], "f4"), np.array([[1]], "f4"))
    net = Network(weights, (np.zeros(1, "f4"), np.array([-0.2], "f4")))
    z = np.array([[0.0, 1.9, 2.0], [-9.0, 1.9, 2.0]])
    noise = find_noise(net, z)
    np.testing.assert_array_equal(noise.after.argmax(axis=1), 2)
    assert not noise.found.any()  # 0.2 < 1/3: no largest of three can be that small


@given(hnp.arrays(np.float64, (6, 2), elements=extremes))
@settings(max_examples=40, deadline=None)
def test_two_classes(z):
    rng = np.random.default_rng(1)
    noise = find_noise(_two_class_network(rng), z, max_steps=30)
    before = softmax(z)
    np.testing.assert_array_equal(noise.after.argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_allclose(noise.after.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(noise.after[~noise.found], before[~noise.found])


def test_ties_and_one_hot_confidences():
    confidences = np.array([[0.5, 0.5], [1, 0], [0, 1], [0.3, 0.7]])
    net = _two_class_network(np.random.default_rng(1))
    noise = find_noise(net, log_confidences(confidences))
    np.testing.assert_array_equal(noise.label, [0, 0, 1, 1])
    np.testing.assert_array_equal(noise.after.argmax(axis=1), [0, 0, 1, 1])
    np.testing.assert_allclose(noise.before, confidences, atol=1e-15)


def _two_class_network(rng):
    weights = rng.normal(size=(6, 2)).astype("f4"), rng.normal(size=(1, 6)).astype("f4")
    return Network(weights, (rng.normal(size=6).astype("f4"), np.zeros(1, "f4")))


def test_jitter_of_a_classifier_does_not_redraw(detector, logits, key):
    bundle = Bundle("membership", detector, settings=Settings(max_steps=60))
    one = bundle.protect(logits, budget=0.2, key=key, logits=True)
    jittered = logits + np.random.default_rng(0).normal(0, 1e-7, logits.shape)
    two = bundle.protect(jittered, budget=0.2, key=key, logits=True)
    assert ((one.cost > 0) == (two.cost > 0)).mean() > 0.98
    from_confidences = bundle.protect(softmax(logits), budget=0.2, key=key)
    assert ((one.cost > 0) == (from_confidences.cost > 0)).mean() > 0.98
    identity = np.arange(len(logits))[:, None] + 1
    first = bundle.protect(logits, budget=0.2, key=key, logits=True, identity=identity)
    second = bundle.protect(jittered, budget=0.2, key=key, logits=True, identity=identity)
    np.testing.assert_array_equal(first.cost > 0, second.cost > 0)


def test_bad_input_is_named(detector):
    with pytest.raises(DataError, match="record 1 is no probability vector"):
        log_confidences(np.array([[0.5, 0.5], [0.5, 0.7]]))
    with pytest.raises(DataError, match="record 0"):
        log_confidences(np.array([[np.nan, 0.5]]))
    with pytest.raises(DataError, match="record 1 holds NaN"):
        find_noise(detector, np.array([[0.0] * 8, [np.inf] * 8]))
    with pytest.raises(DataError, match="shape"):
        find_noise(detector, np.zeros((3, 7)))
    with pytest.raises(OptionError, match="max_steps"):
        find_noise(detector, np.zeros((3, 8)), max_steps=0)


def test_asked_alone_or_together_the_answer_is_the_same_up_to_rounding(detector, logits, key):
    bundle = Bundle("membership", detector, settings=Settings(max_steps=60))
    together = bundle.protect(logits[:40], budget=0.2, key=key, logits=True)
    for row in range(40):
        alone = bundle.protect(logits[row : row + 1], budget=0.2, key=key, logits=True)
        assert (alone.cost[0] > 0) == (together.cost[row] > 0)
        np.testing.assert_allclose(alone.records[0], together.records[row], atol=1e-5)


def test_a_network_of_vast_weights_makes_no_overflow():
    rng = np.random.default_rng(0)
    weights = tuple(
        (rng.normal(size=shape) * scale).astype(np.float32)
        for shape, scale in (((8, 5), 1e12), ((1, 8), 1e10))
    )
    network = Network(weights, (np.zeros(8, np.float32), np.zeros(1, np.float32)))
    logits = rng.normal(size=(40, 5))
    noise = find_noise(network, logits, max_steps=60)
    assert np.isfinite(noise.after).all()
    assert np.allclose(noise.after.sum(axis=1), 1)
    np.testing.assert_array_equal(noise.after.argmax(axis=1), logits.argmax(axis=1))
