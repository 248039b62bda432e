"""Signatures: what was signed passes, and nothing else does."""

import base64
import hashlib
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privet.device import Bundle, Network, load_bundle, write_bundle
from privet.errors import BundleError, OptionError
from privet.signatures import BLOCK, create_signing_key, sign, signature_of, verified, verify

# RFC 8032, section 7.1, test 1.
SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
CONTENT = b"a bundle, or whatever else"


def pem(kind, content):
    text = base64.b64encode(content).decode()
    return f"-----BEGIN {kind} KEY-----\n{text}\n-----END {kind} KEY-----\n"


@pytest.fixture
def keys(tmp_path):
    """The pair of RFC 8032 in the containers of RFC 8410, written out by hand."""
    private, public = tmp_path / "key", tmp_path / "key.pub"
    prefix = bytes.fromhex("302e020100300506032b657004220420")
    private.write_text(pem("PRIVATE", prefix + bytes.fromhex(SEED)))
    private.chmod(0o600)
    public.write_text(pem("PUBLIC", bytes.fromhex("302a300506032b6570032100" + PUBLIC)))
    return private, public


@pytest.fixture
def signed(tmp_path, keys):
    path = tmp_path / "bundle.safetensors"
    path.write_bytes(CONTENT)
    sign(path, keys[0])
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """An own folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# Ed25519 as RFC 8032, section 5.1, defines it, in plain integers.
P, D = 2**255 - 19, -121665 * pow(121666, -1, 2**255 - 19) % (2**255 - 19)
ORDER = 2**252 + 27742317777372353535851937790883648493
BASE_Y = 4 * pow(5, -1, P) % P
BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202


def plus(a, b):
    bend = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + bend, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - bend, -1, P)
    return x % P, y % P


def times(factor):
    result, point = (0, 1), (BASE_X, BASE_Y)
    while factor:
        result = plus(result, point) if factor & 1 else result
        point, factor = plus(point, point), factor >> 1
    return (result[1] | (result[0] & 1) << 255).to_bytes(32, "little")


def by_hand(seed, message):
    def number(*parts):
        return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")

    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ~7 & ((1 << 254) - 1) | 1 << 254
    nonce = number(digest[32:], message) % ORDER
    start = times(nonce)
    share = number(start, times(scalar), message) % ORDER
    return start + ((nonce + share * scalar) % ORDER).to_bytes(32, "little")


def test_the_oracle_is_right():
    known = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac"
    assert by_hand(bytes.fromhex(SEED), b"").hex().startswith(known)


@pytest.mark.parametrize("size", [0, 100, BLOCK, 2 * BLOCK + 1])
def test_the_file_is_what_its_description_says(size, keys, tmp_path):
    path = tmp_path / "some.bundle"
    path.write_bytes(bytes(size))
    assert sign(path, keys[0]) == signature_of(path) == tmp_path / "some.bundle.sig"
    domain = b"privet signature 1\n"
    proof = by_hand(bytes.fromhex(SEED), domain + hashlib.sha512(bytes(size)).digest())
    name = hashlib.sha256(bytes.fromhex("302a300506032b6570032100" + PUBLIC)).hexdigest()
    expected = f"privet signature 1\nkey {name}\n{base64.b64encode(proof).decode()}\n"
    assert signature_of(path).read_text() == expected
    assert verify(path, keys[1]) == name


def test_new_keys_sign_and_only_their_owner_reads_the_private_one(tmp_path):
    private, public = tmp_path / "new" / "key", tmp_path / "new" / "key.pub"
    name = create_signing_key(private, public)
    assert (private.stat().st_mode & 0o777, public.stat().st_mode & 0o077) == (0o600, 0o044)
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    sign(path, private)
    assert verify(path, public) == name
    assert create_signing_key(tmp_path / "b", tmp_path / "b.pub") != name


@pytest.mark.parametrize("there", ["private", "public"])
def test_keys_are_never_overwritten_and_come_in_pairs(there, tmp_path):
    private, public = tmp_path / "private", tmp_path / "public"
    (tmp_path / there).write_text("mine")
    with pytest.raises(OptionError, match="is there already"):
        create_signing_key(private, public)
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_one_place_for_both_keys_is_refused(tmp_path):
    with pytest.raises(OptionError, match="is there already"):
        create_signing_key(tmp_path / "key", tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_no_key(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_signing_key(tmp_path / "key", tmp_path / "key.pub")
    assert list(tmp_path.iterdir()) == []


changes = st.tuples(st.integers(0, 10_000), st.integers(0, 8), st.binary(min_size=0, max_size=4))


@pytest.mark.parametrize("which", ["file", "signature"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(change=changes)
def test_any_other_bytes_are_refused(change, which, signed, keys):
    place = signed if which == "file" else signature_of(signed)
    original = place.read_bytes()
    start, length, new = change
    start %= len(original) + 1
    changed = original[:start] + new + original[start + length :]
    try:
        place.write_bytes(changed)
        if changed == original:
            assert verify(signed, keys[1])
        else:
            with pytest.raises(BundleError) as caught:
                verify(signed, keys[1])
            assert "\n" not in str(caught.value)
    finally:
        place.write_bytes(original)


def test_every_byte_of_a_signature_counts(signed, keys):
    original = signature_of(signed).read_bytes()
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 1 << place % 8
        signature_of(signed).write_bytes(changed)
        with pytest.raises(BundleError):
            verify(signed, keys[1])


def test_another_spelling_of_the_same_signature_is_refused(signed, keys):
    text = signature_of(signed).read_text()
    before = text[-4]  # of its six bits the last four say nothing
    assert before in "AQgw"
    spelled = text[:-4] + chr(ord(before) + 1) + text[-3:]
    assert base64.b64decode(spelled.split()[-1]) == base64.b64decode(text.split()[-1])
    for changed in (spelled, text.replace("\n", "\r\n"), text * 2, text[:-1]):
        signature_of(signed).write_text(changed, newline="")
        with pytest.raises(BundleError):
            verify(signed, keys[1])


def test_the_messages_tell_the_ways_to_fail_apart(signed, keys, tmp_path):
    def refused():
        with pytest.raises(BundleError) as caught:
            verify(signed, keys[1])
        return str(caught.value)

    good = signature_of(signed).read_bytes()
    signature_of(signed).write_bytes(b"x" * 1_000_000)
    assert "no signature that this privet can read" in refused()
    signature_of(signed).unlink()
    assert f"there is no signature {signed}.sig" in refused()
    create_signing_key(tmp_path / "other", tmp_path / "other.pub")
    sign(signed, tmp_path / "other")
    assert "signed by another key" in refused()
    signature_of(signed).write_bytes(good)
    assert verify(signed, keys[1])
    signed.write_bytes(CONTENT + b".")
    assert "is not what its signature was made for" in refused()
    signed.unlink()
    signature_of(signed).unlink()
    assert refused() == f"cannot read {signed}: No such file or directory"


def test_a_key_named_falsely_does_not_pass(signed, keys, tmp_path):
    name = verify(signed, keys[1])
    create_signing_key(tmp_path / "other", tmp_path / "other.pub")
    signature = sign(signed, tmp_path / "other")
    lines = signature.read_text().splitlines()
    signature.write_text("\n".join([lines[0], f"key {name}", lines[2], ""]))
    with pytest.raises(BundleError, match="not what its signature was made for"):
        verify(signed, keys[1])


def other_keys(folder):
    """Yield files that are no Ed25519 key of the kind asked for, and neither is one a key."""
    formats, encoding = serialization.PrivateFormat, serialization.Encoding.PEM
    locked = serialization.BestAvailableEncryption(b"secret")
    key = ed25519.Ed25519PrivateKey.generate()
    curve = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    shown = serialization.PublicFormat.SubjectPublicKeyInfo
    contents = {
        "empty": b"",
        "noise": bytes(range(256)),
        "large": b"-" * 100_000,
        "locked": key.private_bytes(encoding, formats.PKCS8, locked),
        "curve": curve.private_bytes(encoding, formats.PKCS8, plain),
        "curve.pub": curve.public_key().public_bytes(encoding, shown),
    }
    for name, content in contents.items():
        path = folder / f"wrong-{name}"
        path.write_bytes(content)
        path.chmod(0o600)
        yield path


def test_other_keys_are_refused(signed, keys, tmp_path):
    private, public = keys
    before = signature_of(signed).read_bytes()
    for wrong in (*other_keys(tmp_path), private, tmp_path, tmp_path / "none"):
        with pytest.raises(OptionError, match=r"public Ed25519 key|is a folder|cannot read"):
            verify(signed, wrong)
    told = r"private Ed25519 key|sign with the private one|is a folder|cannot read"
    for wrong in (*other_keys(tmp_path), public, tmp_path, tmp_path / "none"):
        with pytest.raises(OptionError, match=told):
            sign(signed, wrong)
    assert signature_of(signed).read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_public_key_is_told_apart_before_anybody_is_told_to_hide_it(signed, keys, mode):
    keys[1].chmod(mode)
    with pytest.raises(OptionError, match=r"key\.pub is a public key; sign with the private one$"):
        sign(signed, keys[1])


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_private_key_that_others_read_is_refused(signed, keys):
    keys[0].chmod(0o640)
    with pytest.raises(OptionError, match="chmod 600"):
        sign(signed, keys[0])


def test_what_cannot_be_signed_is_refused(keys, tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(OptionError, match=r"is a folder|cannot read"):
            sign(path, keys[0])
    assert {file.name for file in tmp_path.iterdir()} == {"key", "key.pub"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_does_not_keep_anyone_waiting(signed, keys):
    signed.unlink()
    os.mkfifo(signed)
    with pytest.raises(BundleError, match="is a folder or a device"):
        verify(signed, keys[1])


def test_signing_again_replaces_a_signature_and_nothing_else(signed, keys):
    first = signature_of(signed).read_bytes()
    signed.write_bytes(b"the next version")
    sign(signed, keys[0])
    assert signature_of(signed).read_bytes() != first
    assert verify(signed, keys[1])
    signature_of(signed).write_bytes(b"-----BEGIN PGP SIGNATURE-----\n")
    with pytest.raises(OptionError, match="no signature of privet"):
        sign(signed, keys[0])
    assert signature_of(signed).read_bytes() == b"-----BEGIN PGP SIGNATURE-----\n"


def test_what_is_loaded_is_what_was_verified(signed, keys, temporary):
    with verified(signed, keys[1]) as path:
        assert path != signed
        assert path.name == signed.name
        assert path.parent.stat().st_mode & 0o077 == 0
        signed.write_bytes(b"swapped in place")
        assert path.read_bytes() == CONTENT
        signed.unlink()
        assert path.read_bytes() == CONTENT
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("when", "sound"), [(1, False), (2, False), (3, True)])
def test_a_file_that_is_swapped_meanwhile_is_not_taken_in_part(
    when, sound, keys, temporary, tmp_path, monkeypatch
):
    path = tmp_path / "long"
    path.write_bytes(bytes(3 * BLOCK))
    sign(path, keys[0])

    class Swapping:
        """A digest during which somebody overwrites the file, once some blocks are in."""

        def __init__(self, digest=hashlib.sha512):
            self.hash, self.blocks = digest(), 0

        def update(self, block):
            self.hash.update(block)
            self.blocks += 1
            if self.blocks == when:
                path.write_bytes(b"x" * 3 * BLOCK)

        def digest(self):
            return self.hash.digest()

    monkeypatch.setattr(hashlib, "sha512", Swapping)
    if sound:
        with verified(path, keys[1]) as copy:
            assert copy.read_bytes() == bytes(3 * BLOCK) != path.read_bytes()
    else:
        with pytest.raises(BundleError, match="not what its signature"), verified(path, keys[1]):
            pytest.fail("let in")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("damage", ["file", "signature", "folder"])
def test_what_is_refused_leaves_no_copy_and_enters_no_block(damage, signed, keys, temporary):
    if damage == "file":
        signed.write_bytes(b"another")
    elif damage == "signature":
        signature_of(signed).unlink()
    path = signed.parent / ".." if damage == "folder" else signed
    with pytest.raises(BundleError), verified(path, keys[1]):
        pytest.fail("let in")
    assert list(temporary.iterdir()) == []


def test_files_that_no_bundle_can_be_are_neither_read_nor_signed(signed, keys, monkeypatch):
    assert verify(signed, keys[1])
    monkeypatch.setattr("privet.signatures.MAX_FILE", len(CONTENT) - 1)
    monkeypatch.setattr("privet.signatures.BLOCK", "read")
    with pytest.raises(BundleError, match=f"has {len(CONTENT)} bytes"), verified(signed, keys[1]):
        pytest.fail("let in")
    with pytest.raises(OptionError, match=f"{len(CONTENT) - 1} at most can be signed"):
        sign(signed, keys[0])


def test_a_file_that_grows_without_end_is_given_up(signed, keys, temporary, monkeypatch):
    monkeypatch.setattr("privet.signatures.MAX_FILE", 2 * BLOCK)
    read, taken = [], hashlib.sha512

    class Growing:
        """A digest during which somebody makes the file longer, for ever."""

        def __init__(self):
            self.hash = taken()

        def update(self, block):
            read.append(len(block))
            with signed.open("ab") as file:
                file.write(bytes(BLOCK))

    monkeypatch.setattr(hashlib, "sha512", Growing)
    with pytest.raises(BundleError, match="at most can be signed"), verified(signed, keys[1]):
        pytest.fail("let in")
    assert sum(read) <= 3 * BLOCK
    assert list(temporary.iterdir()) == []


def test_without_a_trusted_key_nothing_is_asked(tmp_path, temporary, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    path = tmp_path / "unsigned"
    with verified(path, None) as same:
        assert same is path
    assert list(temporary.iterdir()) == []


def test_a_missing_package_is_named(signed, keys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for call in (
        lambda: create_signing_key(tmp_path / "a", tmp_path / "a.pub"),
        lambda: sign(signed, keys[0]),
        lambda: verify(signed, keys[1]),
    ):
        with pytest.raises(OptionError, match=r"pip install 'privet\[sign\]'"):
            call()
    assert not (tmp_path / "a").exists()


def test_a_bundle_is_verified_and_then_loaded(keys, tmp_path, temporary):
    rng = np.random.default_rng(0)
    weights = tuple(rng.normal(size=size).astype(np.float32) for size in ((5, 6), (3, 5)))
    network = Network(weights, (np.zeros(5, np.float32), np.zeros(3, np.float32)))
    path = tmp_path / "bundle.safetensors"
    digest = write_bundle(Bundle("attribute", network), path)
    sign(path, keys[0])
    with verified(path, keys[1]) as copy:
        bundle = load_bundle(copy)
    assert bundle.digest == digest
    np.testing.assert_array_equal(bundle.network.weights[0], weights[0])
    assert list(temporary.iterdir()) == []


def test_a_signed_file_that_is_no_bundle_is_refused_by_its_own_name(signed, keys, temporary):
    with pytest.raises(BundleError) as caught, verified(signed, keys[1]) as copy:
        load_bundle(copy)
    assert str(signed) in str(caught.value)
    assert str(temporary) not in str(caught.value)


def test_importing_it_needs_no_package():
    script = "import sys, privet.signatures, privet.device; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
