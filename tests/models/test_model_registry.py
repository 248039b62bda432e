import pytest
import torch

from privet.errors import OptionError
from privet.models import (
    ARCHITECTURES,
    LSTM,
    FullyConnected,
    ResNet18,
    architecture_for,
    default_for,
)

TAKES = {
    "fc": [(1,), (446,)],
    "resnet18": [(3, 8, 8), (3, 32, 32)],
    "vgg16": [(3, 8, 8), (3, 40, 9)],
    "densenet121": [(3, 8, 8)],
    "vit": [(3, 8, 8), (3, 33, 20)],
    "lstm": [(1,), (446,), (28, 3), (1, 1)],
}


def test_names_are_those_of_the_command_line():
    assert set(TAKES) == set(ARCHITECTURES)


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n in TAKES for s in TAKES[n]])
def test_networks_take_the_rows_they_are_made_for(name, shape):
    architecture = architecture_for(name, row_shape=shape, classes=4)
    assert type(architecture) is ARCHITECTURES[name]
    with torch.device("meta"):
        assert architecture.build()(torch.zeros(2, *shape)).shape == (2, 4)


def test_defaults_are_the_papers():
    assert architecture_for("fc", row_shape=(446,), classes=30) == FullyConnected(
        446, (256, 128), 30, dropout=0.1
    )
    assert architecture_for("resnet18", row_shape=(3, 32, 32), classes=10) == ResNet18(10, 64)
    assert architecture_for("lstm", row_shape=(28, 3), classes=10) == LSTM(3, 10)
    assert architecture_for("lstm", row_shape=(64,), classes=10) == LSTM(8, 10)
    assert architecture_for("lstm", row_shape=(65,), classes=10) == LSTM(9, 10)


@pytest.mark.parametrize(
    ("shape", "name"), [((5,), "fc"), ((4, 5), "lstm"), ((3, 8, 9), "resnet18")]
)
def test_each_kind_of_rows_has_a_default_that_takes_them(shape, name):
    assert default_for(shape) == name
    architecture_for(name, row_shape=shape, classes=2)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("fc", (3, 32, 32), r"fc does not take images, such as .*\(3, 32, 32\); resnet18 does"),
        ("fc", (28, 3), "fc does not take sequences.*; lstm does"),
        ("resnet18", (446,), r"resnet18 does not take tables.*\(446,\); fc does"),
        ("vit", (28, 3), "vit does not take sequences"),
        ("lstm", (3, 32, 32), "lstm does not take images"),
        ("alexnet", (446,), "no model 'alexnet'; choose from fc, resnet18"),
    ],
)
def test_networks_that_do_not_suit_are_refused_with_one_that_does(name, shape, message):
    with pytest.raises(OptionError, match=message):
        architecture_for(name, row_shape=shape, classes=2)


@pytest.mark.parametrize(
    "shape", [(), (0,), (4, 0), (3, 7, 32), (3, 32, 7), (1, 32, 32), (3, 8, 8, 8)]
)
def test_rows_that_no_network_takes_are_named(shape):
    with pytest.raises(OptionError, match="no model takes rows of shape") as caught:
        default_for(shape)
    assert str(shape) in str(caught.value)


def test_no_classes_make_no_network():
    for name, shapes in TAKES.items():
        with pytest.raises(OptionError):
            architecture_for(name, row_shape=shapes[0], classes=0)
