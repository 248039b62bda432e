import pytest
import torch
from torch import nn

from models.model_cases import IMAGES, SMALL, inputs_for
from privet.errors import OptionError
from privet.fit import seeded
from privet.models import (
    LSTM,
    VGG16,
    DenseNet121,
    ResNet18,
    ViT,
    multiply_accumulates,
    nonzero,
    parameters,
)
from privet.models.lstm import Recurrence
from privet.models.vit import Attention


def on_paper(architecture) -> nn.Module:
    """The network without its memory: large ones cost nothing."""
    with torch.device("meta"):
        return architecture.build()


# The usual CIFAR-10 networks at their papers' width. VGG-16 has biases in its convolutions and a
# single linear layer, 512 to 10; the published multiply-accumulates are 0.56 G and 0.313 G.
@pytest.mark.parametrize(
    ("architecture", "count"),
    [(ResNet18(10), 11_173_962), (VGG16(10), 14_728_266), (DenseNet121(10), 6_956_298)],
)
def test_parameters_of_the_published_networks(architecture, count):
    assert parameters(on_paper(architecture)) == count


def test_multiply_accumulates_of_the_published_networks():
    images = torch.zeros(2, 3, 32, 32, device="meta")
    # A stem; four 3 x 3 convolutions; three stages that halve the side and double the channels.
    stage = 64 * 128 * 9 * 16**2 + 3 * 128 * 128 * 9 * 16**2 + 64 * 128 * 16**2
    resnet = 3 * 64 * 9 * 32**2 + 4 * 64 * 64 * 9 * 32**2 + 3 * stage + 512 * 10
    assert resnet == 555_422_720
    assert multiply_accumulates(on_paper(ResNet18(10)), images) == resnet
    assert multiply_accumulates(on_paper(VGG16(10)), images) == 313_201_664


@pytest.mark.parametrize(("width", "depth", "heads", "classes"), [(64, 6, 4, 10), (12, 2, 3, 7)])
def test_size_of_the_vision_transformer_in_closed_form(width, depth, heads, classes):
    network = on_paper(ViT(classes, width, depth=depth, heads=heads))
    patches = (3 * 16 * width + width) + (9 * width + width)
    block = (
        2 * 2 * width + 4 * (width + 1) * width + (width + 1) * 4 * width + (4 * width + 1) * width
    )
    assert parameters(network) == patches + depth * block + 2 * width + (width + 1) * classes
    images = torch.zeros(1, 3, 32, 32, device="meta")
    products = (3 * 16 * width + 9 * width) + depth * 12 * width**2
    assert multiply_accumulates(network, images) == 64 * products + width * classes


@pytest.mark.parametrize(("features", "hidden", "classes"), [(3, 4, 2), (8, 16, 10)])
def test_size_of_the_lstm_in_closed_form(features, hidden, classes):
    network = LSTM(features, classes, hidden).build()
    cell = 4 * hidden * (features + hidden + 1)
    assert parameters(network) == cell + (hidden + 1) * classes
    rows = torch.rand(3, 5, features)
    # The first step has no state to multiply.
    assert multiply_accumulates(network, rows) == (
        4 * hidden * (5 * features + 4 * hidden) + hidden * classes
    )


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("side", [(8, 8), (9, 13), (32, 32)])
def test_images_of_any_size_give_a_row_of_logits(name, side):
    with seeded(1):  # now and then a small VGG begins with all units of a layer silent
        network = IMAGES[name].build().eval()
    images = torch.rand(2, 3, *side, generator=torch.Generator().manual_seed(0))
    logits = network(images)
    assert logits.shape == (2, 5)
    assert not torch.equal(logits[0], logits[1])
    torch.testing.assert_close(network(images[:1]), logits[:1])


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_trained(name):
    torch.manual_seed(0)
    network = SMALL[name].build()
    network(inputs_for(name)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert sum(bool(p.grad.any()) for p in network.parameters()) > 1


def test_recurrence_equals_torchs_lstm():
    torch.manual_seed(0)
    ours, theirs = Recurrence(3, 5), nn.LSTM(3, 5, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.cat([layer.weight for layer in ours.of_inputs]))
        theirs.bias_ih_l0.copy_(torch.cat([layer.bias for layer in ours.of_inputs]))
        theirs.weight_hh_l0.copy_(torch.cat([layer.weight for layer in ours.of_state]))
        theirs.bias_hh_l0.zero_()
    rows = torch.randn(4, 7, 3)
    torch.testing.assert_close(ours(rows), theirs(rows)[0][:, -1])


def test_flat_rows_are_cut_into_steps_and_filled_with_zeros():
    network = LSTM(4, 3, 6).build()
    flat = torch.rand(2, 10)
    steps = torch.cat([flat, torch.zeros(2, 2)], 1).reshape(2, 3, 4)
    assert torch.equal(network(flat), network(steps))
    assert not torch.equal(network(flat), network(steps[:, :2]))


def test_attention_equals_torchs():
    torch.manual_seed(0)
    ours, theirs = Attention(6, 2), nn.MultiheadAttention(6, 2, batch_first=True)
    rows = [getattr(h, kind) for kind in ("query", "key", "value") for h in ours.heads]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in rows]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in rows]))
        theirs.out_proj.load_state_dict(ours.merge.state_dict())
    tokens = torch.randn(3, 5, 6)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_the_transformer_sees_where_a_patch_is():
    network = IMAGES["vit"].build().eval()
    images = torch.rand(1, 3, 16, 16)
    moved = images.roll(4, dims=3)  # the same patches in other places
    assert not torch.allclose(network(images), network(moved))


def test_the_resolution_of_small_images_is_kept_by_the_stems():
    images = torch.rand(1, 3, 16, 16)
    for name in ("resnet18", "vgg16", "densenet121"):
        assert IMAGES[name].build()[0](images).shape[2:] == (16, 16)


def test_multiply_accumulates_count_each_kind_of_layer_once_for_each_record():
    network = nn.Sequential(
        nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), nn.ConvTranspose1d(6, 5, 2), nn.Flatten()
    )
    example = torch.rand(3, 4, 9)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    # 6 x 7 outputs of 2 x 3 weights; 6 x 7 inputs of 5 x 2 weights.
    assert multiply_accumulates(network, example) == 42 * 6 + 42 * 10
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_no_example_counts_nothing():
    with pytest.raises(OptionError, match="at least one record"):
        multiply_accumulates(nn.Linear(2, 2), torch.zeros(0, 2))


def test_nonzero_leaves_zeros_out_and_parameters_do_not():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].weight[1] = 0
        network[0].bias.fill_(2)
    assert parameters(network) == 12 + 4 + 8
    assert nonzero(network) == 9 + 4 + 4  # the scales of the norm, not its zero shifts


@pytest.mark.parametrize("kind", [ResNet18, VGG16, DenseNet121, ViT, LSTM])
def test_networks_need_positive_sizes(kind):
    with pytest.raises(OptionError, match="got 0, 8"):
        kind(0, 8)
    with pytest.raises(OptionError, match="got 5, 0"):
        kind(5, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseNet121(5, 7), "multiple of 2; got 7"),
        (lambda: ViT(5, 10, heads=4), "multiple of 4; got 10"),
        (lambda: ViT(5, 8, depth=0), r"depth .* 1\.\.100; got 0"),
        (lambda: ViT(5, 8, heads=101), r"heads .* 1\.\.100; got 101"),
        (lambda: LSTM(3, 2, 0), "got 3, 2, 0"),
    ],
)
def test_sizes_that_make_no_network_are_named(make, message):
    with pytest.raises(OptionError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", SMALL)
def test_onnx_answers_like_torch_for_any_number_of_records(name, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network, file = SMALL[name].build().eval(), tmp_path / "network.onnx"
    records = torch.export.Dim("records", min=1)
    torch.onnx.export(
        network,
        (inputs_for(name),),
        file,
        input_names=["x"],
        dynamic_shapes=({0: records},),
        verbose=False,
        dynamo=True,
    )
    inputs = inputs_for(name, count=7)
    answers = runtime.InferenceSession(file).run(None, {"x": inputs.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(answers), network(inputs), rtol=1e-4, atol=1e-5)
