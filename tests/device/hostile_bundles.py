"""Bundle files that every reader must refuse, quickly and in one line, made from a sound one.

Where a file is wrong in one way, all else about it is right, the digest included.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from device.bundle_parts import (
    Parts,
    as_float16,
    as_int8,
    body_of,
    header_of,
    of_classes,
    put_together,
    take_apart,
    with_header,
)

MIB = 1 << 20


def hostile(sound: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (what is wrong, the file) for a small attribute bundle stored in float32."""
    parts = take_apart(sound)
    yield from _broken_files(sound, parts)
    yield from _broken_headers(parts)
    yield from _broken_tensors(parts)
    yield from _broken_numbers(parts)
    yield from _broken_documents(parts)
    yield from _broken_settings(parts)
    yield from _broken_self_tests(parts)


def _broken_files(sound: bytes, parts: Parts) -> Iterator[tuple[str, bytes]]:
    (length,) = struct.unpack("<Q", sound[:8])
    yield "nothing", b""
    yield "half a length", sound[:5]
    yield "only a length", sound[:8]
    yield "cut in the header", sound[: 8 + length // 2]
    yield "cut before the tensors", sound[: 8 + length]
    yield "cut in the tensors", sound[:-3]
    yield "a byte after the end", sound + b"\0"
    yield "a file after the end", sound + sound
    yield "a header length of 2**64 - 1", b"\xff" * 8 + sound[8:]
    yield "a header length of 2**63", struct.pack("<Q", 1 << 63) + sound[8:]
    yield "a header length past the file", struct.pack("<Q", len(sound)) + sound[8:]
    yield "a header length off by one", struct.pack("<Q", length - 1) + sound[8:]
    yield "a big-endian header length", struct.pack(">Q", length) + sound[8:]
    yield "a header length of 0", struct.pack("<Q", 0) + sound[8:]
    yield "a header of 4 MiB and a byte", with_header(b" " * (4 * MIB + 1), b"")
    yield "a zip archive", b"PK\x03\x04" + bytes(200)
    yield "a pickle", b"\x80\x04\x95" + bytes(200)


def _broken_headers(parts: Parts) -> Iterator[tuple[str, bytes]]:
    header, body = header_of(parts), body_of(parts)
    text = json.dumps(header)
    for name, raw in {
        "no JSON": b"{" + text.encode(),
        "no UTF-8": b'{"\xff": 1}',
        "a lone list": b"[]",
        "a lone null": b"null",
        "an empty object": b"{}",
        "no metadata": json.dumps({k: v for k, v in header.items() if k[0] != "_"}).encode(),
        "metadata of null": json.dumps(header | {"__metadata__": None}).encode(),
        "metadata of numbers": json.dumps(header | {"__metadata__": {"privet": 1}}).encode(),
        "a key twice": text.replace('"bias.1"', '"bias.0"').encode(),
        "a million lists deep": b'{"x":' + b"[" * 10**6 + b"]" * 10**6 + b"}",
        "a hundred levels deep": b'{"x":' + b"[" * 100 + b"]" * 100 + b"}",
        "a header bomb of keys": b"{" + b",".join(b'"%d":{}' % i for i in range(200_000)) + b"}",
        "a number of a million digits": b'{"x":' + b"9" * 10**6 + b"}",
        "a number past all floats": b'{"x":1e999}',
        "a NaN": b'{"x":NaN}',
        "something after the JSON": text.encode() + b"x",
    }.items():
        yield f"a header with {name}", with_header(raw, body)
    metadata = header["__metadata__"]
    for name, other in {
        "another digest": metadata | {"digest": "0" * 64},
        "a digest in capitals": metadata | {"digest": metadata["digest"].upper()},
        "no digest": {"privet": metadata["privet"]},
        "something more": metadata | {"more": "x"},
    }.items():
        yield f"metadata with {name}", with_header(header | {"__metadata__": other}, body)


def _broken_tensors(parts: Parts) -> Iterator[tuple[str, bytes]]:
    header, body = header_of(parts), body_of(parts)
    start, end = header["weight.0"]["data_offsets"]
    outputs, inputs = header["weight.0"]["shape"]
    for what, changes in {
        "a shape of 2**80": {"shape": [2**40, 2**40]},
        "a shape of more than the file": {"shape": [2**20, 2**20]},
        "a negative shape": {"shape": [-outputs, -inputs]},
        "a shape of fractions": {"shape": [float(outputs), float(inputs)]},
        "a shape of truth values": {"shape": [True, True]},
        "three axes": {"shape": [outputs, inputs, 1]},
        "a million axes": {"shape": [1] * 10**6},
        "another shape": {"shape": [inputs, outputs + 1]},
        "a shape that is no list": {"shape": outputs * inputs},
        "another type of number": {"dtype": "F64"},
        "an unheard-of type": {"dtype": "F31"},
        "a list as type": {"dtype": ["F32"]},
        "three offsets": {"data_offsets": [start, end, end]},
        "text for offsets": {"data_offsets": ["0", "4"]},
        "its end before its start": {"data_offsets": [end, start]},
        "offsets before the file": {"data_offsets": [start - 4, end - 4]},
        "offsets past the file": {"data_offsets": [start + 2**33, end + 2**33]},
        "something more": {"path": "/etc/passwd"},
    }.items():
        changed = header | {"weight.0": header["weight.0"] | changes}
        yield f"a tensor with {what}", with_header(changed, body)
    yield "a tensor that is a list", with_header(header | {"weight.0": []}, body)
    more = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for name in ("more", "weight.00", "scale.0", "../../../etc/passwd", "C:\\x", "weight.0\x00"):
        yield f"an overlapping tensor {name!r}", with_header(header | {name: more}, body)
        one = parts.tensor(name, np.ones(1, "<f4"))
        yield f"an unknown tensor {name!r}", put_together(one)
    empty = more | {"shape": [0], "data_offsets": [0, 0]}
    yield "an empty tensor more", with_header(header | {"more": empty}, body)
    shifted = {
        name: each | {"data_offsets": [at + 4 for at in each["data_offsets"]]}
        for name, each in header.items()
        if name != "__metadata__"
    }
    yield "a gap before the tensors", with_header(header | shifted, bytes(4) + body)
    for name in ("weight.0", "bias.1"):
        few = {key: each for key, each in parts.tensors.items() if key != name}
        yield f"no {name}", put_together(replace(parts, tensors=few))
    yield "no tensors", put_together(replace(parts, tensors={}))
    mixed = parts.tensor("weight.1", parts.values("weight.1").astype("<f2"))
    yield "layers of two precisions", put_together(mixed)


def _broken_numbers(parts: Parts) -> Iterator[tuple[str, bytes]]:
    halves, small = as_float16(parts), as_int8(parts)
    for name in ("weight.0", "bias.1"):
        for wrong in (np.nan, np.inf, -np.inf):
            for precision, each in (("float32", parts), ("float16", halves)):
                values = each.values(name)
                values.flat[-1] = wrong
                yield f"{wrong} in {name}, {precision}", put_together(each.tensor(name, values))
    for wrong in (3e38, 1e31):
        values = parts.values("weight.0")
        values.flat[0] = wrong
        yield f"weights of {wrong}", put_together(parts.tensor("weight.0", values))
    levels = small.values("weight.0")
    levels.flat[0] = -128
    yield "a level of -128", put_together(small.tensor("weight.0", levels))
    for wrong in (0.0, -0.0, -1.0, np.nan, np.inf, 3e38):
        scale = small.values("scale.1")
        scale[-1] = wrong
        yield f"a scale of {wrong}", put_together(small.tensor("scale.1", scale))
    scale = small.values("scale.0")
    yield "a scale too few", put_together(small.tensor("scale.0", scale[:-1]))
    yield "scales as a matrix", put_together(small.tensor("scale.0", scale[:, None]))
    yield "scales in float16", put_together(small.tensor("scale.0", scale.astype("<f2")))
    yield (
        "biases in float16",
        put_together(small.tensor("bias.0", small.values("bias.0").astype("<f2"))),
    )
    none = {name: each for name, each in small.tensors.items() if name != "scale.0"}
    yield "no scale", put_together(replace(small, tensors=none))
    unscaled = parts.tensor("scale.0", scale)
    yield "scales without int8", put_together(unscaled)
    flipped = bytearray(body_of(parts))
    flipped[0] ^= 1
    yield "one bit flipped", with_header(header_of(parts), bytes(flipped))


def _broken_documents(parts: Parts) -> Iterator[tuple[str, bytes]]:
    layers, classes = parts.document["layers"], parts.document["layers"][-1]
    even = [1 / classes] * classes
    text = json.dumps(parts.document)
    for what, wrong in {
        "a key twice": text[:-1] + ', "version": 3}',
        "a NaN": text.replace('"card": {', '"card": {"x": NaN, ', 1),
        "an infinity": text.replace('"card": {', '"card": {"x": -1e999, ', 1),
        "deep nesting": text.replace('"card": {', '"card": {"x": ' + "[" * 40 + "]" * 40 + ", ", 1),
        "no object": f"[{text}]",
        "something behind": text + "{}",
        "a comment": text[:-1] + "/* */}",
    }.items():
        yield f"a document with {what}", put_together(parts, text=wrong.replace(", }", "}"))
    for field in parts.document:
        few = {key: value for key, value in parts.document.items() if key != field}
        yield f"a document without {field}", put_together(replace(parts, document=few))
    changes: list[dict[str, Any]] = [
        {"format": "other"},
        *({"version": each} for each in (0, 1, 2, 4, -3, "3", 3.0, True, None, [3], 10**400)),
        *({"kind": each} for each in ("membership", "pickle", "", None, ["attribute"], {})),
        {"layers": [10**6, *layers[1:]]},
        {"layers": [2**40, *layers[1:]]},
        {"layers": layers[::-1]},
        {"layers": [*layers[:-1], True]},
        {"layers": [float(each) for each in layers]},
        {"layers": layers[:1]},
        {"layers": []},
        {"layers": [0, *layers[1:]]},
        {"layers": [layers[0], 0, *layers[2:]]},
        {"layers": [layers[0]] * 10**5},
        {"layers": {}},
        {"prior": [*even[:-1], 0.5 + even[-1]]},
        {"prior": [*even[:-1], 2e-5 + even[-1]]},
        {"prior": [2.0, -1.0, *even[2:]]},
        {"prior": even[:-1]},
        {"prior": [str(each) for each in even]},
        {"prior": [True, *[0] * (classes - 1)]},
        {"prior": 1.0},
        {"feature_names": ["a"]},
        {"feature_names": "a" * layers[0]},
        {"feature_names": list(range(layers[0]))},
        {"feature_names": ["a"] * layers[0]},
        {"feature_names": ["a", "\u2003a\t", *map(str, range(2, layers[0]))]},
        {"class_names": [None] * classes},
        {"class_names": {"a": 1}},
        {"card": []},
        {"card": None},
        {"more": 1},
        {"x" * MIB: 1},
    ]
    for change in changes:
        yield f"a document with {str(change)[:60]}", put_together(parts.change(**change))


def _broken_settings(parts: Parts) -> Iterator[tuple[str, bytes]]:
    settings, features = parts.document["settings"], parts.document["layers"][0]
    for name in settings:
        few = {key: value for key, value in settings.items() if key != name}
        yield f"no setting {name}", put_together(parts.change(settings=few))
    for value in (None, [], "x", 1, settings | {"run": "rm"}):
        yield f"settings of {str(value)[:20]}", put_together(parts.change(settings=value))
    wrong: dict[str, list[Any]] = {
        "max_steps": [0, -1, 1.0, True, "8", 1001, 100_000, 10**400],
        "margins": [None, {}, [1], [[1]], [[1, -1]], [[2, 1], [1, 1]], [[1, True]], ["12"]],
        "policy": ["", "add", None, ["add_new"]],
        "low": [-0.1, 1.1, "0", None, True, [], [0] * (features + 1), [[0]] * features],
        "high": [-0.1, 1.1, "1", None, False, [1], 10**400],
        "never": [None, "0", [-1], [features], [1, 0], [0, 0], [0.0], [False], [[0]]],
        "mechanism": ["", "others", None, ["answers"]],
        "temperature": [0, -1, "1", True, None, [1], 10**400],
        "leak": [1, -0.1, "0", False, None],
    }
    for name, values in wrong.items():
        for value in values:
            what = f"{name} of {str(value)[:30]!r}"
            yield what, put_together(parts.settings(**{name: value}))
    yield "low above high", put_together(parts.settings(low=0.6, high=0.5))
    for temperature, leak in ((2.0, 0.0), (1.0, 0.5)):
        ignored = parts.settings(mechanism="targets", temperature=temperature, leak=leak)
        yield f"targets at {temperature}, {leak}", put_together(ignored)
    targets = {"mechanism": "targets", "temperature": 1, "leak": 0}
    yield "2001 targets", put_together(of_classes(parts.settings(**targets), 2001))
    answers = {"mechanism": "answers", "margins": []}
    for classes, steps in ((708, None), (708, 8), (251, 64), (2001, 1)):
        wide = of_classes(parts.settings(**answers, max_steps=steps), classes)
        yield f"answers of {classes} classes, {steps} steps", put_together(wide)
    yield "answers after 65 steps", put_together(parts.settings(**answers, max_steps=65))
    yield (
        "answers with margins",
        put_together(parts.settings(mechanism="answers", margins=[[1, 1]], max_steps=8)),
    )


def _broken_self_tests(parts: Parts) -> Iterator[tuple[str, bytes]]:
    features, classes = parts.document["layers"][0], parts.document["layers"][-1]
    even = [1 / classes] * classes
    case = {"record": [[0, 1.0]], "budget": 2.0, "release": [[0, 1.0]], "posterior": even}
    for value in (None, {}, "x", [None], [[]], [{}]):
        yield f"a self-test of {value!r}", put_together(parts.change(self_test=value))
    yield "a case with more", put_together(parts.change(self_test=[case | {"more": 1}]))
    yield "nine cases", put_together(parts.change(self_test=[case] * 9))
    for name in case:
        few = {key: value for key, value in case.items() if key != name}
        yield f"a case without {name}", put_together(parts.change(self_test=[few]))
    ratings: list[Any] = [None, 1, "x", {}, [1], [[0]], [[0, 0.5, 1]], [[0, "1"]], [[0, True]]]
    ratings += [[[0, 0]], [[0, 1.1]], [[0, -0.5]], [[features, 1]], [[-1, 1]], [[0.0, 1]]]
    ratings += [[["0", 1]], [[True, 1]], [[0, 1], [0, 1]], [[1, 1], [0, 1]], [[0, 10**400]]]
    wrong = {
        "record": ratings,
        "release": ratings,
        "budget": [0, -1, "2", None, True, []],
        "posterior": [None, 1.0, even[:-1], [*even, 0.0], [-0.1] * classes, [2] * classes, "ab"],
    }
    for name, values in wrong.items():
        for value in values:
            what = f"a case whose {name} is {str(value)[:30]}, {len(str(value))} long"
            yield what, put_together(parts.change(self_test=[case | {name: value}]))
    member = {"confidences": even, "budget": 1, "release": even, "posterior": 0.5}
    yield "a case of membership", put_together(parts.change(self_test=[member]))
