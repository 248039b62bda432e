"""ONNX files: ONNX Runtime answers as torch does, or there is no file."""

import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.model_cases import SMALL, halved, inputs_for
from privet.errors import DataError, OptionError
from privet.onnx_file import write_onnx
from privet.pruning import keep_at
from privet.pruning.magnitude import Magnitude


def answers(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"inputs": inputs.numpy()})[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_architecture_answers_as_torch_does(name, tmp_path):
    torch.manual_seed(0)
    network, inputs = SMALL[name].build(), inputs_for(name)
    for _ in range(2):
        network(inputs)
    halved(network, inputs)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    path = tmp_path / "new" / "network.onnx"
    found = write_onnx(path, network, inputs)
    assert 0 <= found < 1e-5
    assert [file.name for file in path.parent.iterdir()] == ["network.onnx"]
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    network.eval()
    for count in (1, 2, 9):
        batch = 3 * inputs_for(name, count=count)
        expected = network(batch).detach().numpy()
        np.testing.assert_allclose(answers(path, batch), expected, atol=1e-4)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A sparse network, its file, and the largest difference."""
    path = tmp_path_factory.mktemp("onnx") / "sparse.onnx"
    torch.manual_seed(0)
    network, inputs = SMALL["fc"].build(), inputs_for("fc")
    pruner = Magnitude()
    pruner.prune(network, keep_at(pruner.sizes(network, inputs), 0.75), inputs)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        difference = write_onnx(path, network, inputs)
    return path, network, difference, [str(each.message) for each in heard]


@pytest.mark.slow
def test_zeroed_weights_stay_zero(written):
    path, network, _, _ = written
    weights = [onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer]
    assert sum(int((weight == 0).sum()) for weight in weights) == sum(
        int((parameter == 0).sum()) for parameter in network.parameters()
    )


@pytest.mark.slow
def test_the_file_tells_nothing_of_the_machine_it_was_made_on(written):
    path, network, _, _ = written
    content = path.read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content
    assert len(content) < 4 * sum(p.numel() for p in network.parameters()) + 2000
    onnx.checker.check_model(onnx.load(path), full_check=True)


@pytest.mark.slow
def test_the_file_names_its_input_and_output_and_leaves_the_rows_free(written):
    graph = onnx.load(written[0]).graph
    for value, name, size in ((graph.input, "inputs", 12), (graph.output, "logits", 5)):
        (only,) = value
        rows, columns = only.type.tensor_type.shape.dim
        assert (only.name, rows.dim_param, columns.dim_value) == (name, "batch", size)


@pytest.mark.slow
def test_the_difference_is_told_and_the_exporter_is_not_heard(written):
    _, _, difference, heard = written
    assert 0 <= difference < 1e-5
    assert heard == []


class Drifting(nn.Linear):
    """A network that answers otherwise at each call, which no file can."""

    calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(inputs) + 0.01 * self.calls


class Branching(nn.Linear):
    """A network that takes one of two ways, which the exporter cannot follow."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs if inputs.sum() > 0 else -inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Drifting(4, 3), "answers otherwise than torch: logits differ by 0.0"),
        (Branching(4, 3), "cannot be written as ONNX"),
    ],
)
def test_a_file_that_would_answer_otherwise_is_not_left(network, message, tmp_path, capfd):
    earlier = tmp_path / "earlier.onnx"
    earlier.write_bytes(b"earlier")
    for path in (tmp_path / "new.onnx", earlier):
        with pytest.raises(DataError, match=message) as caught:
            write_onnx(path, network, torch.rand(2, 4))
        assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["earlier.onnx"]
    assert earlier.read_bytes() == b"earlier"
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_nan_is_a_difference(tmp_path):
    network = nn.Sequential(nn.Linear(4, 3))
    nn.init.constant_(network[0].weight, torch.nan)
    with pytest.raises(DataError, match="differ by nan"):
        write_onnx(tmp_path / "a.onnx", network, torch.rand(2, 4))
    assert list(tmp_path.iterdir()) == []


class Words(nn.Module):
    """A network of token ids, each column with a vocabulary of its own."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.vectors = nn.ModuleList(nn.Embedding(size, 3) for size in sizes)

    def forward(self, ids: Tensor) -> Tensor:
        columns = zip(self.vectors, ids.long().T, strict=True)
        return torch.stack([vector(column) for vector, column in columns]).sum(0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("sizes", [(9, 9), (2, 9)])
def test_token_ids_that_the_network_does_not_know_are_left_out(sizes, dtype, tmp_path):
    torch.manual_seed(0)
    network, ids = Words(*sizes).eval(), torch.tensor([[0, 8], [1, 0], [1, 7]], dtype=dtype)
    assert write_onnx(tmp_path / "words.onnx", network, ids) < 1e-5
    expected = network(ids).detach().numpy()
    np.testing.assert_allclose(answers(tmp_path / "words.onnx", ids), expected, atol=1e-5)


def test_an_empty_example_is_refused(tmp_path):
    with pytest.raises(OptionError, match="at least one row"):
        write_onnx(tmp_path / "a.onnx", nn.Linear(4, 3), torch.rand(0, 4))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(OptionError, match=rf"package {package}: pip install 'privet\[onnx\]'"):
        write_onnx(tmp_path / "a.onnx", nn.Linear(4, 3), torch.rand(2, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_importing_it_needs_none_of_them():
    script = "import sys, privet.onnx_file; print({'onnx', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
