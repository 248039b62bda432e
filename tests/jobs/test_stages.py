import itertools
import json
from contextlib import ExitStack

import pytest
import torch

from privet.errors import DataError, OptionError
from privet.files import replacing
from privet.jobs import stages
from privet.jobs.stages import FORMAT, Forgetful, open_run, read_run, versions

SETTINGS = {"dataset": "location", "seed": 7}
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.5, -2])}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def reopened(folder):
    return open_run(folder, "prune", SETTINGS)


def test_a_new_run_writes_down_what_it_is(folder):
    open_run(folder, "prune", SETTINGS)
    record = json.loads((folder / "run.json").read_text())
    assert record == {
        "format": FORMAT,
        "kind": "prune",
        "settings": SETTINGS,
        "versions": versions(),
        "stages": {},
        "result": None,
    }
    assert {"python", "privet", "numpy", "torch"} <= set(record["versions"])


def test_an_unfinished_stage_is_not_remembered(folder):
    run = open_run(folder, "prune", SETTINGS)
    assert run.recall("dense") is None
    assert run.result is None
    assert Forgetful().keep("dense", {}, TENSORS) is None
    assert Forgetful().recall("dense") is None


def test_kept_stages_come_back_in_this_process_and_the_next(folder):
    run = open_run(folder, "prune", SETTINGS)
    run.keep("dense", {"accuracy": 0.5}, TENSORS)
    for holder in (run, reopened(folder), read_run(folder, "prune")):
        record, tensors = holder.recall("dense")
        assert record == {"accuracy": 0.5}
        assert tensors.keys() == TENSORS.keys()
        assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
        assert holder.recall("round-0") is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).t(),
        torch.arange(12.0)[::2],
        torch.arange(3.0).expand(4, 3),
        torch.arange(5, dtype=torch.int64),
        torch.tensor([True, False]),
        torch.randn(7, dtype=torch.float64),
        torch.zeros(0, 3),
        torch.tensor(2.5),
        torch.tensor([float("nan"), float("inf"), -0.0]),
    ],
    ids=["transposed", "strided", "expanded", "int", "bool", "double", "empty", "scalar", "nan"],
)
def test_tensors_of_any_layout_come_back_bit_for_bit(folder, tensor):
    open_run(folder, "prune", SETTINGS).keep("x", {}, {"tensor": tensor})
    back = reopened(folder).recall("x")[1]["tensor"]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    torch.testing.assert_close(back, tensor, rtol=0, atol=0, equal_nan=True)


def test_a_stage_can_be_kept_without_tensors(folder):
    open_run(folder, "prune", SETTINGS).keep("check", {"passed": True}, {})
    assert reopened(folder).recall("check") == ({"passed": True}, {})


def test_equal_settings_take_up_the_run(folder):
    open_run(folder, "prune", SETTINGS).keep("dense", {}, TENSORS)
    assert open_run(folder, "prune", dict(reversed(SETTINGS.items()))).recall("dense")


def test_settings_with_tuples_take_up_the_run_too(folder):
    settings = {**SETTINGS, "speedups": (50.0, 100.0), "options": {"window": (1, 2)}}
    open_run(folder, "protect", settings).keep("dense", {}, TENSORS)
    assert open_run(folder, "protect", settings).recall("dense")


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b = 2, not 3"),
        ({"a": 1}, {"a": 1, "b": 3}, "b = None, not 3"),
        ({"a": 1, "b": 2}, {"a": 1}, "b = 2, not None"),
    ],
)
def test_other_settings_are_refused_by_name(folder, theirs, ours, named):
    open_run(folder, "prune", theirs).keep("dense", {}, TENSORS)
    before = (folder / "run.json").read_bytes()
    with pytest.raises(OptionError) as caught:
        open_run(folder, "prune", ours)
    assert named in str(caught.value)
    assert str(folder) in str(caught.value)
    assert (folder / "run.json").read_bytes() == before


def test_a_foreign_folder_or_file_is_left_alone(folder, tmp_path):
    folder.mkdir()
    (folder / "thesis.tex").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for taken in (folder, tmp_path / "file"):
        with pytest.raises(OptionError, match="holds no run of privet"):
            open_run(taken, "prune", SETTINGS)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "file").read_text() == "dear"


def test_an_empty_folder_is_welcome(folder):
    folder.mkdir()
    open_run(folder, "prune", SETTINGS)
    assert (folder / "run.json").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped header", "gone", "empty"])
def test_a_damaged_stage_file_is_named(folder, damage):
    open_run(folder, "prune", SETTINGS).keep("dense", {}, TENSORS)
    file = folder / "stages" / "dense.safetensors"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        damaged = {"cut": content[:-4], "flipped header": b"\xff" + content[1:], "empty": b""}
        file.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"dense\.safetensors is damaged") as caught:
        reopened(folder).recall("dense")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_a_stage_killed_before_its_record_is_not_finished(folder, failure, monkeypatch):
    run = open_run(folder, "prune", SETTINGS)
    run.keep("dense", {"accuracy": 0.5}, TENSORS)

    def killed(*_):
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(stages, "write_json", killed)
        with pytest.raises(failure):
            run.keep("round-0", {}, TENSORS)
    assert (folder / "stages" / "round-0.safetensors").exists()

    again = reopened(folder)
    assert again.recall("dense")[0] == {"accuracy": 0.5}
    assert again.recall("round-0") is None
    again.keep("round-0", {}, {"bias": torch.zeros(2)})
    assert reopened(folder).recall("round-0")[1].keys() == {"bias"}


def test_a_stage_killed_while_writing_its_tensors_leaves_no_trace(folder):
    run = open_run(folder, "prune", SETTINGS)

    class Killed(torch.Tensor):
        def contiguous(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.keep("dense", {}, {"weight": torch.zeros(2).as_subclass(Killed)})
    assert run.recall("dense") is None
    assert reopened(folder).recall("dense") is None
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["run.json"]


def test_a_run_killed_while_it_was_begun_can_be_begun_again(folder):
    # A process that is killed outright cannot remove its temporary file.
    killed = ExitStack()
    killed.enter_context(replacing(folder / "run.json")).write_text('{"format"')
    assert [path.name != "run.json" for path in folder.iterdir()] == [True]
    open_run(folder, "prune", SETTINGS)
    assert read_run(folder, "prune").record["settings"] == SETTINGS


def test_the_result_is_kept(folder):
    run = open_run(folder, "prune", SETTINGS)
    result = {"accuracy": 0.5, "tiers": [1, 2]}
    assert run.finish(result) == result
    assert run.result == reopened(folder).result == result


def test_a_result_that_is_not_a_number_is_not_written(folder):
    run = open_run(folder, "prune", SETTINGS)
    with pytest.raises(ValueError, match="JSON compliant"):
        run.finish({"accuracy": float("nan")})
    assert reopened(folder).result is None


def test_a_missing_run_is_named(folder):
    with pytest.raises(DataError, match=r"holds no run: .*run\.json is missing"):
        read_run(folder, "prune")


def test_a_run_of_another_kind_is_named(folder):
    open_run(folder, "protect", SETTINGS)
    for read in (lambda: read_run(folder, "prune"), lambda: reopened(folder)):
        with pytest.raises(DataError, match="of kind 'protect', not 'prune'"):
            read()


@pytest.mark.parametrize(
    "content", ["[1, 2]", '{"format": 99, "kind": "prune"}', '{"kind": "prune"}', "3", '{"a"', ""]
)
def test_a_record_that_is_none_is_named(folder, content):
    folder.mkdir()
    (folder / "run.json").write_text(content)
    for read in (lambda: read_run(folder, "prune"), lambda: reopened(folder)):
        with pytest.raises(DataError, match=r"run\.json is no"):
            read()


def test_stages_are_remembered_one_by_one(folder):
    names = ["dense", "round-0", "round-1"]
    for count in itertools.count():
        run = reopened(folder)
        finished = [name for name in names if run.recall(name) is not None]
        assert finished == names[:count]
        if count == len(names):
            break
        run.keep(names[count], {"count": count}, {"x": torch.tensor(count)})
