"""Table 1 from files in the form of the data sets that cannot be had everywhere."""

import io
import json
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from privet.cli import run
from privet.jobs.membership_training import MembershipSettings
from privet.reproduce import membership_rows
from privet.reproduce.membership_rows import Scale

SETTINGS = MembershipSettings(
    target_hidden=(24,),
    target_epochs=8,
    defense_hidden=(24, 12),
    defense_epochs=8,
    tier_epochs=4,
    attacker_hidden=(8,),
    attacker_epochs=8,
    image_width=4,
    image_epochs=1,
    budgets=(0.5,),
    attempts=1,
)


def texas100(folder):
    """Write 400 stays of 30 features and 100 procedures, as in dataset_texas.tgz."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 100 + 1
    stays = rng.integers(0, 2, (400, 30))
    content = {
        "texas/100/feats": "".join(",".join(map(str, row)) + "\n" for row in stays),
        "texas/100/labels": "".join(f"{label}\n" for label in labels),
    }
    with tarfile.open(folder / "dataset_texas.tgz", "w:gz") as archive:
        for name, text in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


def ch_mnist(folder):
    """Write 14 tiles of each of 8 tissues, as in Kather's archive."""
    rng = np.random.default_rng(1)
    name = "Kather_texture_2016_image_tiles_5000"
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        for tissue in range(8):
            for tile in range(14):
                pixels = rng.integers(0, 255, (150, 150, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "TIFF")
                archive.writestr(f"{name}/{tissue + 1:02d}_TISSUE/{tile}.tif", buffer.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "speedups"),
    [("texas100", texas100, (2.0,)), ("ch-mnist", ch_mnist, (2.0,))],
)
def test_the_path_of_a_data_set_that_is_not_at_hand(
    name, write, speedups, tmp_path, monkeypatch, capsys
):
    (tmp_path / "cache" / name).mkdir(parents=True)
    write(tmp_path / "cache" / name)
    monkeypatch.setenv("PRIVET_DATA", str(tmp_path / "cache"))
    scale = Scale(replace(SETTINGS, speedups=speedups), ("nn", "entr", "gap", "defense-model"))
    monkeypatch.setattr(membership_rows, "scale_of", lambda table, name: scale)
    command = f"reproduce table1 --dataset {name} --seeds 1 --json --out"
    assert run([*command.split(), str(tmp_path / "out")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "membership"
    methods = [(row["method"], row["nominal_speedup"]) for row in document["rows"]]
    assert methods == [("MemGuard", 1), ("SP-ASPP", 2.0)]
    assert document["rows"][0]["paper"]["accuracy"] == {"texas100": 0.736, "ch-mnist": 0.7075}[name]
    for row in document["rows"]:
        assert 0 <= row["attackers"]["gap"]["accuracy"] <= 1
        assert 0 <= row["attackers"]["defense-model"]["auc"] <= 1
