"""Data of any make: it becomes tensors, or one line says what it is and what to do about it."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import privet
from privet import query
from privet.errors import DataError
from privet.jobs.inputs import as_dense, require_trainable

CLASSES = 3
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 4)).astype("f4"), np.arange(12) % CLASSES
PAIRS = list(zip(X, Y.tolist(), strict=True))


class Answering(nn.Module):
    """Answers with whatever a function makes of its logits."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(4, CLASSES), function

    def forward(self, inputs):
        return self.function(self.layer(inputs))


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        [X, Y],
        [torch.from_numpy(X), torch.from_numpy(Y)],
        (X[::-1][::-1], Y),
        (X.tolist(), Y.tolist()),
        PAIRS,
        TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        (torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)),
    ],
)
def test_what_holds_the_same_numbers_is_the_same(data):
    inputs, labels = as_dense(data, nn.Linear(4, CLASSES))
    assert torch.equal(inputs, torch.from_numpy(X))
    assert torch.equal(labels, torch.from_numpy(Y))
    assert not inputs.requires_grad


def test_views_that_run_backwards_keep_their_order():
    inputs, labels = as_dense((X[::-1, ::-1], Y[::-1]), nn.Linear(4, CLASSES))
    np.testing.assert_array_equal(inputs, X[::-1, ::-1])
    np.testing.assert_array_equal(labels, Y[::-1])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ([{"x": x, "label": y} for x, y in PAIRS], "list of dict"),
        ([(x, y, 0) for x, y in PAIRS], "list of tuple"),
        ([(X[0], 0), (X[1][:3], 1)], "equal size"),
        (([[1.0, 2.0], [3.0]], [0, 1]), "tuple of list"),
        ((X, np.array(list("abcabcabcabc"))), "numpy.str_"),
        ([(x, "oak") for x in X], "'oak'"),
        ([(Image.new("L", (2, 2)), 0)], "ToTensor"),
        (DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))), "DataLoader"),
        ((sparse.csr_array(X), Y), "csr_array"),
        (((X[0], 0), (X[1], 1)), "tuple of tuple"),
        (None, "NoneType"),
    ],
)
def test_other_data_is_named(data, kind):
    with pytest.raises(DataError, match=kind) as refused:
        as_dense(data, nn.Linear(4, CLASSES))
    assert "data must be (X, y)" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(5, CLASSES), r"does not take rows of shape \(4,\)"),
        (nn.Embedding(9, CLASSES), r"does not take rows of shape \(4,\)"),
        (nn.Linear(4, CLASSES).double(), r"pass model\.float\(\)"),
        (Answering(lambda logits: {"logits": logits}), "tensor; got dict"),
        (Answering(lambda logits: logits[:, 0]), r"row of logits.* 1 with shape \(1,\)"),
        (query.as_module(lambda inputs: inputs[0, 7]), "does not take rows"),
    ],
)
def test_models_that_do_not_answer_are_named(model, words):
    with pytest.raises(DataError, match=words):
        as_dense((X, Y), model)


def test_a_network_that_nothing_can_change_is_named():
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, CLASSES)).requires_grad_(False)
    with pytest.raises(DataError, match=r"Sequential can be trained.*requires_grad_\(True\)"):
        require_trainable(network)
    network[1].bias.requires_grad = True
    require_trainable(network)


def test_a_network_frozen_for_use_is_audited_by_shadow_models_that_train():
    rng = np.random.default_rng(0)
    members, nonmembers = (
        (rng.normal(size=(40, 4)).astype("f4"), np.arange(40) % CLASSES) for _ in range(2)
    )
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    network.requires_grad_(False)
    report = privet.audit(
        model=network, members=members, nonmembers=nonmembers, shadows=1, attacks="conf"
    )
    assert report["findings"][0]["attack"] == "conf"
    assert not any(parameter.requires_grad for parameter in network.parameters())
