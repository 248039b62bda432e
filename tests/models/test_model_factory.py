import subprocess
import sys

import pytest
import torch

from privet.errors import OptionError
from privet.models import Factory

MODULE = """
import torch
from torch import nn

number = 3

class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, 5)

class Makers:
    @staticmethod
    def make():
        return nn.Linear(2, 4)

def make():
    return nn.Linear(2, 3)

def wants(width):
    return nn.Linear(2, width)

def breaks():
    raise RuntimeError("no\\nweights")

def leaves():
    raise SystemExit(3)

def state():
    return make().state_dict()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("own_"):
            del sys.modules[name]


@pytest.fixture
def module(here):
    (here / "own_nets.py").write_text(MODULE)
    return "own_nets"


@pytest.mark.parametrize(("name", "outputs"), [("make", 3), ("Net", 5), ("Makers.make", 4)])
def test_functions_classes_and_what_they_hold_make_networks(module, name, outputs):
    network = Factory(f"{module}:{name}").build()
    assert network(torch.zeros(1, 2)).shape == (1, outputs)
    assert Factory(f"{module}:{name}").build() is not network


def test_modules_may_lie_in_packages_of_the_current_folder(here):
    (here / "own_shop").mkdir()
    (here / "own_shop" / "nets.py").write_text(MODULE)
    assert Factory("own_shop.nets:make").build().out_features == 3


def test_the_current_folder_joins_the_import_path_once(module, here):
    Factory(f"{module}:make").build()
    Factory(f"{module}:make").build()
    assert sys.path.count(str(here)) == 1


def test_naming_a_factory_imports_nothing(here):
    (here / "own_loud.py").write_text("raise RuntimeError")
    Factory("own_loud:make")
    assert "own_loud" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "module own_nets has no missing"),
        ("Makers.missing", r"module own_nets has no Makers\.missing"),
        ("number", "own_nets:number is of type int; name a function"),
        ("wants", "calling it without arguments raised TypeError: .*width"),
        ("breaks", "calling it without arguments raised RuntimeError: no weights"),
        ("leaves", "calling it without arguments raised SystemExit: 3"),
        ("state", "returned OrderedDict; it must return a torch.nn.Module"),
    ],
)
def test_what_makes_no_network_is_named(module, name, message):
    with pytest.raises(OptionError, match=message) as caught:
        Factory(f"{module}:{name}").build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import own_absent", "importing it raised ModuleNotFoundError: .*own_absent"),
        ("1 / 0", "importing it raised ZeroDivisionError: division by zero"),
        ("def make(:", "importing it raised SyntaxError"),
        ("import sys; sys.exit(2)", "importing it raised SystemExit: 2"),
        ("from own_broken import other", "importing it raised ImportError"),
    ],
)
def test_modules_that_cannot_be_imported_say_why(here, source, message):
    (here / "own_broken.py").write_text(source)
    with pytest.raises(OptionError, match=message) as caught:
        Factory("own_broken:make").build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("own_absent:make", "own_absent"),
        ("own_absent.nets:make", "own_absent"),
        ("os.own_absent:make", "os.own_absent"),
    ],
)
def test_modules_that_do_not_exist_are_named(here, path, missing):
    with pytest.raises(OptionError, match=f"no module {missing} for {path}"):
        Factory(path).build()


@pytest.mark.parametrize(
    "path",
    ["", "nets", "nets:", ":make", "nets.py:make()", "a/b:make", "..a:make", "a:b:c", "a b:c"],
)
def test_paths_of_another_form_are_refused(path):
    with pytest.raises(OptionError, match=r"package\.module:function"):
        Factory(path)


@pytest.mark.slow
def test_a_console_script_finds_modules_of_the_current_folder(module, here):
    code = f"from privet.models import Factory; print(Factory('{module}:make').build())"
    # -I leaves the current folder out of the path, as an installed command does.
    command = [sys.executable, "-I", "-c", code]
    result = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert "out_features=3" in result.stdout, result.stderr
