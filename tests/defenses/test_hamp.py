import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import nn

from privet import query
from privet.defenses import choose
from privet.defenses.hamp import HAMP, RankOnly, label_confidence, random_inputs, soft_labels
from privet.errors import OptionError
from privet.fit import Setup, Step, sgd
from privet.models import FullyConnected
from privet.sparse import take


def entropy(probabilities):
    return -sum(p * math.log(p) for p in probabilities if p > 0)


@given(st.integers(2, 1000), st.floats(0, 0.999))
def test_the_label_confidence_solves_the_entropy_equation(classes, threshold):
    confidence = label_confidence(classes, threshold)
    assert 1 / classes < confidence <= 1
    rest = (1 - confidence) / (classes - 1)
    label = [confidence] + [rest] * (classes - 1)
    assert entropy(label) == pytest.approx(threshold * math.log(classes), abs=1e-6)


def test_known_label_confidences():
    assert label_confidence(30, 0.0) == 1
    # Two classes at entropy log(2)/2: the root of the binary entropy of half a bit.
    assert label_confidence(2, 0.5) == pytest.approx(0.889972, abs=1e-6)


def test_soft_labels_hold_the_confidence_at_the_true_class():
    soft = soft_labels(torch.tensor([2, 0]), 4, threshold=0.8)
    torch.testing.assert_close(soft.sum(1), torch.ones(2))
    assert soft.argmax(1).tolist() == [2, 0]
    assert len(soft[0].unique()) == 2


def test_the_loss_is_what_a_plain_loop_gives():
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.1, 3.0]]), torch.tensor([0, 1])
    setup = Setup(nn.Identity(), logits, labels, sgd(0.1), batch_size=2)
    step = Step(setup.model, 0, torch.arange(2), logits, labels, logits)
    loss = HAMP(entropy_threshold=0.7, entropy_weight=0.2).start(setup).loss(step)

    expected = 0.0
    confidence = label_confidence(3, 0.7)
    for row, label in zip(logits.numpy().astype(float), labels.tolist(), strict=True):
        answer = np.exp(row) / np.exp(row).sum()
        soft = [confidence if c == label else (1 - confidence) / 2 for c in range(3)]
        divergence = sum(s * math.log(s / a) for s, a in zip(soft, answer, strict=True))
        expected += (divergence - 0.2 * entropy(answer)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FullyConnected(6, (16,), 5, dropout=0.5).build()


@pytest.fixture
def samples():
    return torch.randn(300, 6, generator=torch.Generator().manual_seed(1))


def test_served_answers_keep_their_order_and_take_their_values_from_random_inputs(model, samples):
    served = query.logits(HAMP().serve(model), samples)
    plain, others = query.logits(model, samples), query.logits(model, random_inputs(samples))
    assert torch.equal(served.argsort(1), plain.argsort(1))
    torch.testing.assert_close(served.sort(1).values, others.sort(1).values)
    assert not torch.allclose(served, plain, atol=0.1)


def test_a_sample_is_answered_alike_alone_and_in_any_batch(model, samples):
    served = HAMP().serve(model)
    together = query.logits(served, samples)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    alone = torch.cat([query.logits(served, sample[None]) for sample in samples[:20]])
    torch.testing.assert_close(alone, together[:20])
    assert torch.equal(torch.get_rng_state(), state)


def test_random_inputs_differ_by_sample_and_stay_in_its_range(samples):
    drawn = random_inputs(samples)
    low, high = samples.amin(1, keepdim=True), samples.amax(1, keepdim=True)
    assert ((drawn >= low) & (drawn <= high)).all()
    share = (drawn - low) / (high - low)
    # 300 samples in 1,024 slots: about 260 slots are met, far fewer were the hash uneven.
    assert len(torch.unique(share.mul(1e4).round(), dim=0)) > 230
    assert float(share.mean()) == pytest.approx(0.5, abs=0.03)


def test_records_of_zeros_and_ones_spread_over_the_draws():
    generator = torch.Generator().manual_seed(0)
    records = (torch.rand(500, 446, generator=generator) < 0.1).float()
    drawn = random_inputs(records)
    assert len(torch.unique(drawn, dim=0)) > 350


def test_images_and_sparse_records_are_served_too(samples):
    images = samples.view(100, 2, 3, 3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(18, 4))
    assert query.logits(RankOnly(network), images).shape == (100, 4)
    sparse = take(csr_array(samples.numpy()), torch.arange(300))
    assert torch.equal(random_inputs(sparse), random_inputs(samples))


def test_a_served_model_pickles(model, samples):
    served = HAMP().serve(model)
    again = pickle.loads(pickle.dumps(served))  # noqa: S301
    assert torch.equal(query.logits(again, samples), query.logits(served, samples))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entropy_threshold": 1.0}, r"\[0, 1\)"),
        ({"entropy_threshold": -0.1}, r"\[0, 1\)"),
        ({"entropy_weight": -1}, "at least 0"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        choose("hamp", options)
