"""The JSON document in a bundle file: how it is written, and how much of it is believed."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from privet.device.case import from_document, to_document
from privet.device.network import Network
from privet.device.protect import KINDS, Bundle
from privet.device.settings import Settings
from privet.errors import BundleError
from privet.tensorfile import open_document

FORMAT = "privet-bundle"
VERSION = 3
SETTINGS = {each.name for each in fields(Settings)}
FIELDS = {
    "format",
    "version",
    "kind",
    "layers",
    "prior",
    "settings",
    "feature_names",
    "class_names",
    "self_test",
    "card",
}


def document_of(bundle: Bundle) -> dict[str, Any]:
    """Return what a bundle's file says of it, beside its weights; `bundle_of` undoes it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": bundle.kind,
        "layers": bundle.network.sizes,
        "prior": None if bundle.prior is None else np.asarray(bundle.prior).tolist(),
        "settings": asdict(bundle.settings),
        "feature_names": bundle.feature_names,
        "class_names": bundle.class_names,
        "self_test": [to_document(bundle.kind, case) for case in bundle.self_test],
        "card": dict(bundle.card),
    }


def read_document(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Read the document and check its fields, as far as they say which tensors there are."""
    document = open_document(metadata, format=FORMAT, version=VERSION, fields=FIELDS)
    layers = document["layers"]
    sizes = isinstance(layers, list) and all(type(x) is int and x > 0 for x in layers)
    if not sizes or len(layers) < 3:
        raise BundleError(f"layers must be a list of three or more sizes; got {str(layers)[:60]}")
    if document["kind"] not in KINDS:
        raise BundleError(
            f"its kind must be one of {', '.join(KINDS)}; got {str(document['kind'])[:40]!r}"
        )
    if not isinstance(document["card"], dict):
        raise BundleError("its card must be an object")
    return document


def bundle_of(document: dict[str, Any], network: Network, *, digest: str) -> Bundle:
    """Return the bundle that a document, as `read_document` gives it, makes of a network."""
    return Bundle(
        kind=document["kind"],
        network=network,
        prior=_prior(document["prior"]),
        settings=settings_of(document),
        feature_names=_names("feature_names", document["feature_names"]),
        class_names=_names("class_names", document["class_names"]),
        card=document["card"],
        self_test=from_document(document["kind"], network.sizes, document["self_test"]),
        digest=digest,
    )


def settings_of(document: dict[str, Any]) -> Settings:
    """Return the settings; unknown ones are refused, since they would change the release."""
    value = document["settings"]
    if set(value) != SETTINGS:
        odd = sorted(set(value) ^ SETTINGS)
        raise BundleError(f"settings missing or unknown: {str(odd)[:100]}")
    margins = value["margins"]
    if not isinstance(margins, list) or not all(isinstance(point, list) for point in margins):
        raise BundleError("margins must be a list of lists")
    if not isinstance(value["never"], list):
        raise BundleError("never must be a list")
    lists = {"margins": tuple(tuple(point) for point in margins), "never": tuple(value["never"])}
    return Settings(**{name: _as_tuple(each) for name, each in (value | lists).items()})


def _as_tuple(value: Any) -> Any:
    """Return a list as a tuple; anything else is for `Settings` to judge."""
    return tuple(value) if isinstance(value, list) else value


def _prior(value: Any) -> Any:
    """Return a prior of plain numbers; NumPy would take text and truth values for some, too."""
    numbers = isinstance(value, list) and all(type(share) in (int, float) for share in value)
    if not (value is None or numbers):
        raise BundleError("its prior must be a list of numbers, or null")
    return value


def _names(what: str, value: Any) -> tuple[str, ...] | None:
    """Return a list of names as a tuple; a string is no list of its letters."""
    if not (value is None or isinstance(value, list)):
        raise BundleError(f"its {what} must be a list of strings, or null")
    return None if value is None else tuple(value)
