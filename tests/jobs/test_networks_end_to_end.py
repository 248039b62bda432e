"""Networks other than fully connected ones, from files to an audit."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from privet import query
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.cases import Source, open_case
from privet.jobs.inputs import dense
from privet.jobs.prune import prune_source
from privet.jobs.settings import recommended
from privet.models import load_weights

QUICK = {"rounds": 2, "epochs": 1, "dense_epochs": 2, "patience": None, "batch_size": 16}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 8 x 8 pictures, red ones and blue ones."""
    folder = tmp_path_factory.mktemp("pictures") / "pictures"
    rng = np.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 130, (8, 8, 3), dtype=np.uint8)
            pixels[:, :, channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def restored(folder, source):
    """Return a run's pruned network as its files describe it, and the run's data."""
    case = open_case(source)
    network = case.architecture.build()
    load_weights(network, load_file(folder / "stages" / "model.safetensors"))
    return network, case


def assert_pruned_as_reported(folder, source, result):
    network, case = restored(folder, source)
    rows = dense(case.made.table, case.made.split.test)
    assert query.accuracy(network, *rows) == result["test_accuracy"]
    assert sum(parameter.numel() for parameter in network.parameters()) == result["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["magnitude", "structural"])
def test_an_image_folder_is_pruned_and_audited_without_asking_about_noise(
    pruner, pictures, tmp_path
):
    source = Source(str(pictures), model="resnet18", width=4, seed=1)
    scoring = {"score_models": 2, "score_epochs": 1}
    settings = recommended("swmr", {"width": 30}, **QUICK, **scoring, pruner=pruner)
    result = prune_source(source, settings, out=tmp_path / "run")
    assert result["model"] == "resnet18"
    assert_pruned_as_reported(tmp_path / "run", source, result)
    if pruner == "structural":
        assert result["macs"] < 0.4 * result["dense_macs"]
    audit = audit_run(tmp_path / "run", Settings(("conf", "loss"), shadows=1))
    assert [each["attack"] for each in audit["findings"]] == ["conf", "loss"]
    (shadows,) = (tmp_path / "run" / "shadows").iterdir()
    assert shadows.name == "online-seed-0-noiseless"
    with np.load(shadows / "0000.npz") as held:
        assert set(held.files) == {"logits", "logits-1"}


def test_an_attack_that_needs_noise_asks_about_it(pictures, tmp_path):
    source = Source(str(pictures), model="resnet18", width=4, seed=1)
    settings = recommended("base", **{**QUICK, "dense_epochs": 1, "rounds": 1})
    prune_source(source, settings, out=tmp_path / "run")
    audit = audit_run(tmp_path / "run", Settings(("label-only",), shadows=1))
    assert [each["attack"] for each in audit["findings"]] == ["label-only"]
    with np.load(tmp_path / "run" / "shadows" / "online-seed-0" / "0000.npz") as held:
        assert {"sensitivity", "robustness"} < set(held.files)


def test_pictures_are_distilled_from_networks_of_the_students_own_make(pictures, tmp_path):
    source = Source(str(pictures), model="vit", width=8, seed=1)
    settings = recommended(
        "distill",
        {"folds": 2},
        **{**QUICK, "rounds": 1},
        score_epochs=1,
    )
    result = prune_source(source, settings, out=tmp_path / "run")
    stages = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    assert {"teacher-0", "teacher-1"} <= stages.keys()
    assert_pruned_as_reported(tmp_path / "run", source, result)


def sequences(file, count=120):
    """Write sequences of six steps that rise or fall."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    slope = np.linspace(-1, 1, 6)[None, :, None] * (2 * labels - 1)[:, None, None]
    np.savez(file, X=(slope + rng.normal(0, 0.3, (count, 6, 3))).astype("f4"), y=labels)
    return Source(str(file), seed=1)


@pytest.mark.parametrize("pruner", ["magnitude", "structural"])
def test_sequences_are_an_lstms(pruner, tmp_path):
    source = sequences(tmp_path / "sequences.npz")
    settings = recommended("base", **{**QUICK, "dense_epochs": 8}, pruner=pruner)
    result = prune_source(source, settings, out=tmp_path / "run")
    assert result["model"] == "lstm"
    assert result["test_accuracy"] > 0.8
    assert_pruned_as_reported(tmp_path / "run", source, result)
    if pruner == "magnitude":
        network, _ = restored(tmp_path / "run", source)
        layer = network.get_parameter("1.of_state.0.weight")
        assert int((layer == 0).sum()) == round(0.6 * layer.numel())


def test_an_lstms_shadow_models_are_pruned_like_it(tmp_path):
    source = sequences(tmp_path / "sequences.npz")
    settings = recommended("base", **{**QUICK, "dense_epochs": 2}, pruner="structural")
    prune_source(source, settings, out=tmp_path / "run")
    audit = audit_run(tmp_path / "run", Settings(("conf", "hconf"), shadows=1))
    assert all(0 <= each["auc"] <= 1 for each in audit["findings"])


def test_a_vision_transformer_reads_a_table_of_images(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.random((60, 3, 8, 8)) * 0.5
    images[:, 1] += 0.5 * labels[:, None, None]
    np.savez(tmp_path / "images.npz", X=images.astype("f4"), y=labels)
    source = Source(str(tmp_path / "images.npz"), model="vit", width=8, seed=1)
    settings = recommended("base", **{**QUICK, "dense_epochs": 1, "rounds": 1})
    result = prune_source(source, settings, out=tmp_path / "run")
    assert result["sparsity"] == 0.6
    assert result["nonzero"] < result["parameters"]
    assert_pruned_as_reported(tmp_path / "run", source, result)


def test_a_network_of_the_users_own_may_share_weights_between_layers(tmp_path):
    """Weights that two layers share are kept once for each, and both stay pruned."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", X=rng.random((60, 6)).astype("f4"), y=np.arange(60) % 2)
    (tmp_path / "tied_network.py").write_text(
        "from torch import nn\n\n"
        "def make():\n"
        "    one, two = nn.Linear(6, 6), nn.Linear(6, 6)\n"
        "    two.weight = one.weight\n"
        "    return nn.Sequential(one, nn.ReLU(), two, nn.ReLU(), nn.Linear(6, 2))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        source = Source(str(tmp_path / "t.npz"), model="tied_network:make", seed=1)
        result = prune_source(source, recommended("base", **QUICK), out=tmp_path / "run")
        network, _ = restored(tmp_path / "run", source)
    assert torch.equal(network[0].weight, network[2].weight)
    assert int((network[0].weight == 0).sum()) == round(0.6 * 36)
    assert result["nonzero"] < result["parameters"]
