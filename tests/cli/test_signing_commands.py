"""`privet protect keygen` and `sign`, and the commands that refuse what nobody trusted signed."""

import shutil
import tempfile
from contextlib import contextmanager

import pytest

from cli.commands import asked, refusal
from cli.person import make_bundle, ratings, summary, write_csv
from cli.refusals import snapshot
from privet.cli import run

pytest.importorskip("cryptography")

USES = {
    "apply": "protect apply mine.csv --bundle {} --budget 3 --key key --out new.csv",
    "check": "protect check {}",
    "serve": "protect serve {} --out page",
}
using = pytest.mark.parametrize("use", USES.values(), ids=USES.keys())


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with the keys of a maker and of a stranger, a signed bundle, and records."""
    monkeypatch.chdir(tmp_path)
    for name in ("maker", "stranger"):
        assert asked(f"protect keygen --private {name}.pem --public {name}.pub")[0] == 0
    make_bundle(tmp_path / "b.safetensors")
    assert asked("protect sign b.safetensors --key maker.pem")[0] == 0
    write_csv(tmp_path / "mine.csv", ratings())
    return tmp_path


def test_the_pair_is_a_secret_key_and_one_to_publish(place, capsys):
    made = summary("protect keygen --private new.pem --public new.pub")
    assert (made["private"], made["public"]) == ("new.pem", "new.pub")
    assert len(bytes.fromhex(made["fingerprint"])) == 32
    assert (place / "new.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in (place / "new.pub").read_text()
    assert summary("protect sign mine.csv --key new.pem") == {"signature": "mine.csv.sig"}
    assert made["fingerprint"] in (place / "mine.csv.sig").read_text()
    before = snapshot(place)
    for pair in ("--private new.pem --public other.pub", "--private other.pem --public new.pub"):
        assert "there already" in refusal(f"protect keygen {pair}", capsys=capsys)
    assert snapshot(place) == before


@using
def test_what_the_trusted_key_signed_is_taken(use, tmp_path_factory, monkeypatch):
    copies = tmp_path_factory.mktemp("copies")
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    assert asked(f"{use} --trusted maker.pub", "b.safetensors")[0] == 0
    assert snapshot(copies) == {}


def test_check_names_the_key_and_apply_the_bundle_that_it_was_given(place):
    assert (
        "signed by the key in maker.pub"
        in asked("protect check b.safetensors --trusted maker.pub")[1]
    )
    told = summary(f"{USES['apply']} --trusted maker.pub", "b.safetensors")
    assert told["bundle"] == "b.safetensors"
    plain = (place / "new.csv").read_bytes()
    assert asked(USES["apply"], "b.safetensors")[0] == 0
    assert (place / "new.csv").read_bytes() == plain


def flipped(place):
    content = bytearray((place / "b.safetensors").read_bytes())
    content[-1] ^= 1
    (place / "b.safetensors").write_bytes(content)


def exchanged(place):
    # A sound bundle, self-test and all, in place of the one that was signed.
    make_bundle(place / "b.safetensors", seed=9)


def unsigned(place):
    (place / "b.safetensors.sig").unlink()


def garbled(place):
    (place / "b.safetensors.sig").write_text("privet signature 1\nby me\n")


def signed_by_another(place):
    assert asked("protect sign b.safetensors --key stranger.pem")[0] == 0


@using
@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (flipped, "not what its signature was made for"),
        (exchanged, "not what its signature was made for"),
        (unsigned, "there is no signature b.safetensors.sig"),
        (garbled, "no signature that this privet can read"),
        (signed_by_another, "signed by another key"),
    ],
)
def test_what_the_trusted_key_did_not_sign_is_refused(harm, word, use, place, capsys):
    harm(place)
    before = snapshot(place)
    err = refusal(f"{use} --trusted maker.pub", "b.safetensors", capsys=capsys)
    assert word in err
    assert "privet: b.safetensors" in err or "b.safetensors.sig" in err
    assert snapshot(place) == before


def test_every_tier_of_a_folder_has_to_be_signed(place, capsys):
    (place / "tiers").mkdir()
    for name in ("b.safetensors", "b.safetensors.sig"):
        shutil.copy(place / name, place / "tiers")
    command = f"{USES['apply']} --trusted maker.pub"
    told = summary(command, "tiers")
    assert told["bundle"] == "tiers/b.safetensors"
    make_bundle(place / "tiers" / "a.safetensors", hidden=4)
    assert "no signature tiers/a.safetensors.sig" in refusal(command, "tiers", capsys=capsys)
    assert asked("protect sign tiers/a.safetensors --key maker.pem")[0] == 0
    assert summary(command, "tiers") | {"seconds": 0} == told | {"seconds": 0}
    err = refusal(f"{command} --max-memory 5", "tiers", capsys=capsys)
    assert "tiers/a.safetensors takes least" in err


@pytest.mark.parametrize(
    "target",
    ["--out maker.pub", "--out new.csv --changes maker.pub", "--out b.safetensors.sig"],
)
def test_the_evidence_is_not_written_over(target, place, capsys):
    before = snapshot(place)
    command = "protect apply mine.csv --bundle b.safetensors --budget 3 --key key"
    err = refusal(f"{command} --trusted maker.pub {target}", capsys=capsys)
    assert "overwritten" in err
    assert snapshot(place) == before


def test_a_bundle_that_changes_after_it_was_verified_is_used_as_it_was(place, monkeypatch):
    from privet import signatures

    verified = signatures.verified

    @contextmanager
    def then_changed(path, trusted):
        with verified(path, trusted) as copy:
            exchanged(place)
            yield copy

    assert asked(USES["apply"], "b.safetensors")[0] == 0
    expected = (place / "new.csv").read_bytes()
    monkeypatch.setattr(signatures, "verified", then_changed)
    arguments = USES["apply"].replace("{}", "b.safetensors").split()
    assert run([*arguments, "--trusted", "maker.pub"]) == 0
    assert (place / "new.csv").read_bytes() == expected
    # The exchanged bundle would have released something else.
    assert asked(USES["apply"], "b.safetensors")[0] == 0
    assert (place / "new.csv").read_bytes() != expected
