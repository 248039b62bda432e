"""`privet protect build`: tiers in several precisions, under rules, and as ONNX."""

import re

import numpy as np
import pytest

from cli.commands import asked, the_json
from cli.person import NAMES, ratings, write_csv, write_people
from cli.refusals import snapshot
from privet.cli import run
from privet.device import load_bundle, run_self_test
from privet.device.bundle import outline

pytestmark = pytest.mark.slow

BUILD = (
    "protect build {} --hidden 16 --attacker-hidden 8 --speedups 2 --seed 1 --out {} "
    "--precisions float32,int8 --policy modify_exist --low 0.2 --high 1,1,1,0.6,0.6,1 "
    "--never chess,5 --onnx --recipe plain"
)
TIERS = {"float32": "people-x2.safetensors", "int8": "people-x2-int8.safetensors"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build of one speed-up in two precisions: its folder and its JSON."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("tiers")
    people = write_people(folder / "people.csv")
    return folder / "bundles", the_json(BUILD, people, folder / "bundles")


def test_there_is_a_bundle_a_precision_and_each_is_measured(built):
    folder, told = built
    assert sorted(path.name for path in folder.glob("*.safetensors")) == sorted(TIERS.values())
    assert [tier["precision"] for tier in told["tiers"]] == list(TIERS)
    for tier, (precision, name) in zip(told["tiers"], TIERS.items(), strict=True):
        assert tier["bundle"] == str(folder / name)
        assert tier["bytes"] == (folder / name).stat().st_size
        assert outline(folder / name).precision == precision
        card = load_bundle(folder / name).card
        assert {key: card[key] for key in ("precision", "definitions", "attack_accuracy")} == {
            key: tier[key] for key in ("precision", "definitions", "attack_accuracy")
        }


@pytest.mark.parametrize("precision", TIERS)
def test_each_bundle_passes_its_check(precision, built):
    folder, told = built
    status, printed = asked("protect check {}", folder / TIERS[precision])
    (tier,) = [tier for tier in told["tiers"] if tier["precision"] == precision]
    assert status == (0 if tier["definitions"]["passed"] else 1)
    assert re.search(r"answers its [1-8] test records right", printed)
    assert f"weights stored as {precision}" in printed
    run_self_test(load_bundle(folder / TIERS[precision]))


@pytest.mark.parametrize("precision", TIERS)
def test_bundles_hold_the_rules_and_keep_them(precision, built, tmp_path):
    folder, _ = built
    settings = load_bundle(folder / TIERS[precision]).settings
    assert settings.policy == "modify_exist"
    assert {1, 5} <= set(settings.never)
    mine = write_csv(tmp_path / "mine.csv", np.clip(ratings(), 0, 0.6))
    out = tmp_path / "safe.csv"
    command = "protect apply {} --bundle {} --budget 3 --key {} --out {}"
    assert asked(command, mine, folder / TIERS[precision], tmp_path / "key", out)[0] == 0
    before, after = (np.loadtxt(path, delimiter=",", skiprows=1) for path in (mine, out))
    changed = before != after
    assert changed.any()
    assert not changed[:, [1, 5]].any()
    assert not changed[before == 0].any()
    new = np.where(changed & (after > 0), after, np.nan)
    assert not (new < 0.2).any()
    assert not (new[:, [3, 4]] > 0.6).any()


@pytest.mark.parametrize("precision", TIERS)
def test_the_onnx_file_answers_as_the_bundle_does(precision, built):
    import onnxruntime

    folder, told = built
    path = (folder / TIERS[precision]).with_suffix(".onnx")
    assert str(path) in [each["file"] for each in told["onnx"]]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    records = ratings().astype(np.float32)
    (answers,) = session.run(["logits"], {"inputs": records})
    expected = load_bundle(folder / TIERS[precision]).network.logits(records)
    assert np.allclose(answers, expected, atol=1e-4)


def test_build_and_report_tell_the_precisions_apart(built, tmp_path):
    folder, _ = built
    status, printed = asked(BUILD, folder.parent / "people.csv", folder)
    printed = printed.replace("\N{NO-BREAK SPACE}", " ")
    assert status == 0
    labels = [line.split()[:2] for line in printed.splitlines()]
    assert ["2x", "int8"] in labels
    assert f"wrote {folder / 'people-x2-int8.onnx'}" in printed
    page = tmp_path / "page.html"
    assert run(["report", str(folder), "--out", str(page)]) == 0
    assert re.search(r">\s*2x int8\s*<", page.read_text())


def test_the_folder_of_a_build_is_one_to_choose_from(built, tmp_path):
    folder, _ = built
    mine = write_csv(tmp_path / "mine.csv", ratings())
    before = snapshot(folder)
    told = the_json("protect apply {} --bundle {} --budget 3 --dry-run", mine, folder)
    assert told["bundle"] == str(folder / TIERS["float32"])
    assert snapshot(folder) == before
    assert load_bundle(folder / TIERS["int8"]).feature_names == NAMES
