import json
import struct

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from privet.device import Bundle, Network, Settings, load_bundle, write_bundle
from privet.device.network import softmax
from privet.errors import BundleError, DataError, OptionError


@pytest.fixture(scope="module")
def bundle(guesser):
    return Bundle(
        "attribute",
        guesser,
        prior=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1],
        settings=Settings(max_steps=50, margins=((1, 0), (3, 0.5))),
        feature_names=tuple(f"app {i}" for i in range(300)),
        class_names=("Köln", "b", "c", "d", "e", "f"),
        card={"accuracy": 0.5, "macs": guesser.macs, "note": "ünïcode"},
    )


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(3, 4)).astype("f4"), rng.normal(size=(2, 3)).astype("f4"))
    return Bundle("attribute", Network(weights, (np.zeros(3, "f4"), np.ones(2, "f4"))))


@pytest.fixture(scope="module")
def content(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "small.safetensors"
    write_bundle(small, path)
    return path.read_bytes()


def rebuilt(content, *, header=None, document=None, body=None):
    """The file again with its header, document (redigested or not), or body edited."""
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    data = content[8 + length :] if body is None else body
    if document is not None:
        import hashlib

        old = json.loads(head["__metadata__"]["privet"])
        text = json.dumps(document(old))
        digest = hashlib.sha256(text.encode())
        for name, shape, span in (
            (n, t["shape"], t["data_offsets"]) for n, t in sorted(head.items()) if n[0] != "_"
        ):
            digest.update(f"\n{name} {'x'.join(map(str, shape))}\n".encode())
            digest.update(data[slice(*span)])
        head["__metadata__"] = {"privet": text, "digest": digest.hexdigest()}
    if header is not None:
        head = header(head)
    raw = json.dumps(head).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def plain(**changes):
    """The settings of a bundle's document, edited."""
    rules = {"policy": "modify_add", "low": 0, "high": 1, "never": []}
    mechanism = {"mechanism": "targets", "temperature": 1, "leak": 0}
    return {"max_steps": 5, "margins": []} | rules | mechanism | changes


def refused(tmp_path, content, match=None):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=match) as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))
    assert str(path) in str(caught.value)


def test_round_trip_keeps_everything(bundle, tmp_path):
    path = tmp_path / "a.safetensors"
    digest = write_bundle(bundle, path)
    again = load_bundle(str(path))
    assert again.digest == digest
    assert (again.kind, again.settings) == (bundle.kind, bundle.settings)
    assert again.feature_names == bundle.feature_names
    assert again.class_names == bundle.class_names
    assert again.card == bundle.card
    np.testing.assert_array_equal(again.prior, bundle.prior)
    for name in ("weights", "biases"):
        for a, b in zip(getattr(again.network, name), getattr(bundle.network, name), strict=True):
            np.testing.assert_array_equal(a, b)
    write_bundle(again, tmp_path / "b.safetensors")
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_round_trip_keeps_the_rules(small, tmp_path):
    given = Settings(policy="add_new", low=(0.0, 0.2, 0.0, 0.1), high=0.8, never=(0, 3))
    bundle = Bundle("attribute", small.network, settings=given)
    write_bundle(bundle, tmp_path / "a")
    assert load_bundle(tmp_path / "a").settings == given


def test_round_trip_keeps_the_mechanism(small, tmp_path):
    given = Settings(mechanism="answers", temperature=2.5, leak=0.1)
    write_bundle(Bundle("attribute", small.network, settings=given), tmp_path / "a")
    assert load_bundle(tmp_path / "a").settings == given


def test_any_safetensors_reader_can_open_it(bundle, tmp_path):
    path = tmp_path / "a.safetensors"
    write_bundle(bundle, path)
    with safe_open(path, framework="np") as file:
        document = json.loads(file.metadata()["privet"])
        assert sorted(file.keys()) == ["bias.0", "bias.1", "weight.0", "weight.1"]
        np.testing.assert_array_equal(file.get_tensor("weight.0"), bundle.network.weights[0])
    assert document["version"] == 3
    assert document["layers"] == [300, 48, 6]


def test_half_precision_halves_the_file(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "full")
    digest = write_bundle(bundle, tmp_path / "half", precision="float16")
    half = load_bundle(tmp_path / "half")
    for a, b in zip(half.network.weights, bundle.network.weights, strict=True):
        np.testing.assert_array_equal(a, b.astype(np.float16).astype(np.float32))
    ratio = (tmp_path / "half").stat().st_size / (tmp_path / "full").stat().st_size
    assert ratio < 0.6
    # The digest speaks of values, not of how they are stored.
    assert write_bundle(half, tmp_path / "again") == digest


def test_unwritable_bundles_leave_nothing_behind(small, tmp_path):
    huge = Network(
        (small.network.weights[0] * np.float32(1e6), small.network.weights[1]), small.network.biases
    )
    with pytest.raises(DataError, match="infinite"):
        write_bundle(Bundle("attribute", huge), tmp_path / "x", precision="float16")
    for card in ({"a": np.float32(1)}, {"a": float("nan")}):
        with pytest.raises(DataError, match="JSON"):
            write_bundle(Bundle("attribute", small.network, card=card), tmp_path / "x")
    with pytest.raises(BundleError, match="shorten the card"):
        write_bundle(Bundle("attribute", small.network, card={"a": "x" * 2**22}), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_bundles_cut_anywhere_are_refused(content, tmp_path):
    for end in [*range(0, 40), *range(40, len(content), 13), len(content) - 1]:
        refused(tmp_path, content[:end])
    refused(tmp_path, content + b"\0", match="end with the file")


def test_any_flipped_byte_is_noticed(content, tmp_path):
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        if bytes(damaged[:8]) == content[:8] and content[place : place + 1].isspace():
            continue
        refused(tmp_path, bytes(damaged))


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_noise_is_refused(tmp_path_factory, noise):
    refused(tmp_path_factory.mktemp("noise"), noise)


def test_hostile_headers_are_refused(content, tmp_path):
    refused(tmp_path, struct.pack("<Q", 2**63) + content[8:], match="not a safetensors")
    refused(tmp_path, struct.pack("<Q", 2**22 + 1) + b" " * (2**22 + 9), match="not a safetensors")
    deep = b"[" * 100_000
    refused(tmp_path, struct.pack("<Q", len(deep)) + deep)
    for value in (b"[]", b'"x"', b"null", b"{}", b'{"__metadata__": null}', b"\xff\xfe"):
        refused(tmp_path, struct.pack("<Q", len(value)) + value)

    def tensor(**changes):
        def edit(head):
            head["weight.0"] |= changes
            return head

        return rebuilt(content, header=edit)

    refused(tmp_path, tensor(shape=[2**40, 2**40]), match="bad shape")
    refused(tmp_path, tensor(shape=[2**20, 2**20]), match="bytes it claims")
    refused(tmp_path, tensor(shape=[12, 1, 1]), match="type or shape")
    refused(tmp_path, tensor(shape=[1] * 9), match="bad shape")
    refused(tmp_path, tensor(shape=[-3, -4]), match="bad shape")
    refused(tmp_path, tensor(shape=[4, 3]), match="type or shape")
    refused(tmp_path, tensor(dtype="BF16"), match="bytes it claims")
    refused(tmp_path, tensor(dtype="C64"), match="dtype")
    refused(tmp_path, tensor(dtype=[]))
    refused(tmp_path, tensor(data_offsets=[0, 48, 9]), match="start and end")
    refused(tmp_path, tensor(extra=1), match="described by")
    refused(tmp_path, tensor(data_offsets=[4, 52]), match="overlap")
    extra = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    refused(tmp_path, rebuilt(content, header=lambda h: h | {"more": extra}), match="overlap")
    doubled = content.replace(b'"bias.1"', b'"bias.0"')
    refused(tmp_path, doubled, match="twice")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 1}, "update privet"),
        ({"version": 2}, "update privet"),
        ({"version": 4}, "update privet"),
        ({"version": None}, "update privet"),
        ({"format": "other"}, "format"),
        ({"kind": "membership", "self_test": []}, "layer sizes"),
        ({"kind": "pickle"}, "kind must be"),
        ({"kind": []}, "kind must be"),
        ({"layers": [4, 2**31, 2]}, "shape|layers"),
        ({"layers": [4, 3, 3, 2]}, "missing"),
        ({"layers": [4, True, 2]}, "sizes"),
        ({"layers": "432"}, "sizes"),
        ({"prior": [0.5, 0.6]}, "sum to 1"),
        ({"prior": [1]}, "prior"),
        ({"prior": ["0.5", "0.5"]}, "list of numbers"),
        ({"prior": [True, False]}, "list of numbers"),
        ({"prior": {"0.5": 1, "0.6": 1}}, "list of numbers"),
        ({"prior": [10**400, 0]}, "too large"),
        ({"prior": [-(10**400), 0]}, "too large"),
        ({"version": True}, "update privet"),
        ({"version": 10**4000}, "update privet"),
        ({"format": "x" * 10**6}, "format"),
        ({"kind": "x" * 10**6}, "kind"),
        ({"layers": [10**400, 3, 2]}, "shape|layers"),
        ({"layers": [4] * 10**5}, "shape|layers"),
        ({"settings": plain(max_steps=10**4000)}, "max_steps"),
        ({"settings": plain(max_steps=1001)}, "max_steps must be in 1..1000; got 1001"),
        ({"feature_names": ["a", "b", " a", "d"]}, "must differ, .* 'a' is there twice"),
        ({"settings": plain(margins=[[1, 10**400]])}, "margins"),
        ({"settings": plain(margins=[[10**400, 1]])}, "margins"),
        ({"settings": plain(margins=[[1, True]])}, "margins"),
        ({"settings": plain(margins=[[[[1]], 1]])}, "margins"),
        ({"settings": plain(margins=[[1, 1]] * 10**5)}, "ascend"),
        ({"settings": plain(margins={})}, "list of lists"),
        ({"settings": plain(margins=["12"])}, "list of lists"),
        ({"settings": [["max_steps", 5]]}, "settings|unhashable"),
        ({"feature_names": "abcd"}, "list of strings"),
        ({"feature_names": dict.fromkeys("abcd", 1)}, "list of strings"),
        ({"feature_names": ["a", "b", "c", None]}, "4 strings"),
        ({"feature_names": ["a"] * 10**5}, "4 strings; got 100000"),
        ({"feature_names": [["a"], "b", "c", "d"]}, "4 strings"),
        ({"class_names": 7}, "list of strings"),
        ({"surprise" * 10**5: 1}, "surprise"),
        ({"settings": {}}, "settings"),
        ({"settings": plain(max_steps=10**9)}, "max_steps"),
        ({"settings": plain(max_steps=True)}, "max_steps"),
        ({"settings": plain(margins=[[1, -1]])}, "margins"),
        ({"settings": plain(margins=[[2, 1], [1, 1]])}, "ascend"),
        ({"settings": plain(run="rm")}, "settings"),
        ({"settings": {"max_steps": 5, "margins": []}}, "settings"),
        ({"settings": plain(policy="add")}, "policy must be one of"),
        ({"settings": plain(policy=[])}, "policy must be one of"),
        ({"settings": plain(policy=None)}, "policy"),
        ({"settings": plain(low="0")}, "low must be numbers"),
        ({"settings": plain(low=None)}, "low must be numbers"),
        ({"settings": plain(low=True)}, "low must be numbers"),
        ({"settings": plain(low=[])}, "low must be numbers"),
        ({"settings": plain(low=[[0], 0, 0, 0])}, "low must be numbers"),
        ({"settings": plain(high=1.5)}, "high must lie in 0..1"),
        ({"settings": plain(high=10**400)}, "high must be numbers"),
        ({"settings": plain(high=[1, 1, 1])}, "4, one a feature"),
        ({"settings": plain(low=[0, 0, 0.5, 0], high=0.4)}, "feature 2 is 0.5, above"),
        ({"settings": plain(never=None)}, "never must be a list"),
        ({"settings": plain(never="12")}, "never must be a list"),
        ({"settings": plain(never={})}, "never must be a list"),
        ({"settings": plain(never=[1, 0])}, "ascending"),
        ({"settings": plain(never=[1, 1])}, "ascending"),
        ({"settings": plain(never=[-1])}, "never must be feature numbers"),
        ({"settings": plain(never=[1.0])}, "never must be feature numbers"),
        ({"settings": plain(never=[True])}, "never must be feature numbers"),
        ({"settings": plain(never=["1"])}, "never must be feature numbers"),
        ({"settings": plain(never=[[1]])}, "never must be|unhashable"),
        ({"settings": plain(never=[1, "2"])}, "never must be|not supported"),
        ({"settings": plain(never=[4])}, "features below 4; got 4"),
        ({"settings": plain(never=[10**400])}, "feature numbers"),
        ({"settings": plain(mechanism="others")}, "mechanism must be"),
        ({"settings": plain(mechanism=None)}, "mechanism must be"),
        ({"settings": plain(mechanism=["answers"])}, "mechanism must be"),
        ({"settings": plain(temperature=0)}, "temperature must be above 0"),
        ({"settings": plain(temperature=-1.5)}, "temperature must be above 0"),
        ({"settings": plain(temperature="1")}, "temperature must be above 0"),
        ({"settings": plain(temperature=True)}, "temperature must be above 0"),
        ({"settings": plain(temperature=None)}, "temperature must be above 0"),
        ({"settings": plain(temperature=[1])}, "temperature must be above 0"),
        ({"settings": plain(temperature=10**400)}, "temperature must be above 0"),
        ({"settings": plain(leak=1)}, "leak must lie in"),
        ({"settings": plain(leak=-0.1)}, "leak must lie in"),
        ({"settings": plain(leak="0")}, "leak must lie in"),
        ({"settings": plain(leak=False)}, "leak must lie in"),
        ({"settings": plain(leak=None)}, "leak must lie in"),
        ({"feature_names": ["a"]}, "feature_names"),
        ({"class_names": [1, 2]}, "class_names"),
        ({"card": []}, "card"),
        ({"card": {"x": float("inf")}}, "Infinity"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_documents_are_refused_even_with_a_right_digest(content, tmp_path, change, match):
    refused(tmp_path, rebuilt(content, document=lambda old: old | change), match=match)


@pytest.mark.parametrize("name", sorted(plain()))
def test_every_setting_must_be_there(content, tmp_path, name):
    some = {key: value for key, value in plain().items() if key != name}
    change = {"settings": some}
    refused(tmp_path, rebuilt(content, document=lambda old: old | change), match=name)
    assert load_bundle(written(tmp_path, content, plain())).settings.max_steps == 5


def written(tmp_path, content, given):
    path = tmp_path / "good.safetensors"
    path.write_bytes(rebuilt(content, document=lambda old: old | {"settings": given}))
    return path


def test_membership_bundles_have_no_mechanism(detector):
    for wrong in (
        {"never": (1,)},
        {"mechanism": "answers"},
        {"policy": "add_new"},
        {"margins": ((1.0, 0.5),)},
    ):
        with pytest.raises(DataError, match="membership bundle"):
            Bundle("membership", detector, settings=Settings(**wrong))


def test_settings_that_would_be_ignored_are_refused():
    for wrong in ({"temperature": 2.0}, {"leak": 0.1}):
        with pytest.raises(OptionError, match="mechanism of answers"):
            Settings(**wrong)
    with pytest.raises(OptionError, match="margins"):
        Settings(mechanism="answers", margins=((1.0, 0.5),))


def test_a_bundle_that_would_take_all_memory_is_refused():
    for mechanism, classes in (("answers", 1500), ("targets", 2001)):
        wide = Network(
            (np.ones((2, 3), np.float32), np.ones((classes, 2), np.float32)),
            (np.zeros(2, np.float32), np.zeros(classes, np.float32)),
        )
        match = f"{classes} classes are too many with the mechanism of {mechanism}"
        with pytest.raises(DataError, match=match):
            Bundle("attribute", wide, settings=Settings(mechanism=mechanism))


def nested(levels):
    value = 0
    for level in range(levels):
        value = [value] if level % 2 else {"x": value}
    return value


def test_nesting_is_bounded(content, small, tmp_path):
    for levels, match in ((40, "nested more than 32"), (900, "nested|recursion")):
        for field in ("card", "prior", "settings", "feature_names", "kind"):
            change = {field: {"x": nested(levels)}}
            refused(tmp_path, rebuilt(content, document=lambda d, c=change: d | c), match=match)
    deep = "[" * 10**5 + "]" * 10**5
    card = json.dumps({"x": "DEEP"}).replace('"DEEP"', deep)
    head = {"__metadata__": {"privet": card, "digest": ""}}
    raw = json.dumps(head).encode()
    refused(tmp_path, struct.pack("<Q", len(raw)) + raw)
    # What no reader would take is not written either.
    for levels in (40, 10**4):
        with pytest.raises(DataError, match="JSON"):
            write_bundle(
                Bundle("attribute", small.network, card={"x": nested(levels)}), tmp_path / "x"
            )
    with pytest.raises(DataError, match="JSON"):
        write_bundle(Bundle("attribute", small.network, card={1: 0, "1": 0}), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    card = {"x": nested(29)}
    write_bundle(Bundle("attribute", small.network, card=card), tmp_path / "fine")
    assert load_bundle(tmp_path / "fine").card == card


def test_rebuilding_without_a_change_is_accepted(content, tmp_path):
    path = tmp_path / "same"
    path.write_bytes(rebuilt(content, document=lambda old: old))
    assert load_bundle(path).features == 4


def test_nan_weights_and_wrong_digests_are_refused(content, tmp_path):
    body = bytearray(content[-4 * (12 + 3 + 6 + 2) :])
    body[:4] = struct.pack("<f", float("nan"))
    refused(tmp_path, rebuilt(content, document=lambda d: d, body=bytes(body)), match="NaN")
    body[:4] = struct.pack("<f", 0.5)
    refused(tmp_path, rebuilt(content, body=bytes(body)), match="digest")


def test_missing_files_and_folders_are_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match=r"cannot read|bytes"):
            load_bundle(path)


def test_protect_attribute_in_every_shape(bundle, ratings, key):
    release = bundle.protect(ratings, budget=2.0, key=key)
    assert release.records.dtype == ratings.dtype
    assert ((release.records != ratings).sum(axis=1) == release.cost).all()
    assert (release.expected_cost <= 2 + 1e-9).all()
    said = softmax(bundle.network.logits(release.records)).argmax(axis=1) == release.target
    np.testing.assert_array_equal(said, release.reached)
    for make in (sp.csr_matrix, sp.csr_array, sp.csc_array, sp.coo_matrix, sp.lil_matrix):
        sparse = make(ratings.astype(np.float64))
        other = bundle.protect(sparse, budget=2.0, key=key)
        assert type(other.records) is type(sparse)
        assert other.records.dtype == np.float64
        # Entries that stay are kept to the last bit; the given matrix is not touched.
        exact = np.where(release.records == ratings, sparse.toarray(), release.records)
        np.testing.assert_array_equal(other.records.toarray(), exact)
        assert (sparse != make(ratings.astype(np.float64))).sum() == 0


def test_protect_is_one_time_and_keyed(bundle, ratings, key):
    one = bundle.protect(ratings, budget=3.0, key=key)
    shuffled = bundle.protect(ratings[::-1], budget=3.0, key=key)
    np.testing.assert_array_equal(one.records, shuffled.records[::-1])
    other = bundle.protect(ratings, budget=3.0, key=bytes(32))
    assert (one.target != other.target).mean() > 0.3


def test_protected_targets_follow_the_prior(bundle, ratings):
    counts = np.zeros(6)
    for secret in range(40):
        release = bundle.protect(ratings, budget=100.0, key=bytes([secret]) * 32)
        counts += np.bincount(release.target, minlength=6)
    np.testing.assert_allclose(counts / counts.sum(), bundle.prior, atol=0.04)


def test_budget_may_differ_by_record(bundle, ratings, key):
    budget = np.linspace(0.5, 5, len(ratings))
    release = bundle.protect(ratings, budget=budget, key=key)
    assert (release.expected_cost <= budget + 1e-9).all()
    row = 17
    alone = bundle.protect(ratings[row : row + 1], budget=float(budget[row]), key=key)
    np.testing.assert_array_equal(alone.records[0], release.records[row])


def test_integer_ratings_stay_integers(bundle, ratings, key):
    binary = (ratings > 0).astype(np.int8)
    release = bundle.protect(binary, budget=3.0, key=key)
    assert release.records.dtype == np.int8
    assert set(np.unique(release.records)) == {0, 1}


def test_margins_are_read_off_a_line():
    settings = Settings(margins=((1.5, 0.0), (2.5, 1.0)))
    np.testing.assert_allclose(settings.margin([1, 2, 9]), [0, 0.5, 1])
    assert Settings().margin(3.0) == 0


def test_confidences_count_as_what_they_are_normalized(detector, logits, key):
    guard, sure = Bundle("membership", detector), softmax(logits)
    one = guard.protect(sure, budget=0.4, key=key).records
    other = guard.protect(sure * 1.0009, budget=0.4, key=key).records
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert (abs(one - sure).max(axis=1) > 1e-3).mean() > 0.2


def test_names_of_features_differ_and_those_of_classes_need_not(small):
    names = ("a", "A", "a b", "\N{LATIN SMALL LETTER A}\N{COMBINING ACUTE ACCENT}")
    made = Bundle("attribute", small.network, feature_names=names, class_names=("x", "x"))
    assert made.feature_names == names
    with pytest.raises(DataError, match="feature_names must differ"):
        Bundle("attribute", small.network, feature_names=("a", "b", "c", "\N{NO-BREAK SPACE}a"))


def test_posterior(bundle, ratings, detector, logits):
    np.testing.assert_allclose(bundle.posterior(ratings).sum(axis=1), 1)
    np.testing.assert_allclose(
        bundle.posterior(sp.csr_array(ratings)), bundle.posterior(ratings), atol=1e-6
    )
    guard = Bundle("membership", detector)
    shuffled = softmax(logits)[:, ::-1]
    np.testing.assert_allclose(guard.posterior(softmax(logits)), guard.posterior(shuffled))


def test_misuse_is_refused(bundle, detector, ratings, key):
    for budget in (0, -1, float("nan"), [1, 2]):
        with pytest.raises(OptionError, match="budget"):
            bundle.protect(ratings, budget=budget, key=key)
    with pytest.raises(OptionError, match="key"):
        bundle.protect(ratings, budget=1, key=b"")
    with pytest.raises(OptionError, match="membership bundles only"):
        bundle.protect(ratings, budget=1, key=key, logits=True)
    with pytest.raises(DataError, match="layer sizes"):
        Bundle("attribute", detector)
    with pytest.raises(DataError, match="prior"):
        Bundle("membership", detector, prior=[1.0])
