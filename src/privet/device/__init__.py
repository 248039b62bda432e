"""What runs on a person's own device: NumPy only, no torch, no SciPy, no network.

Algorithms 1 and 2 of SP-ASPP exist once, here: evaluation calls the same functions.
"""

from privet.device.bundle import load_bundle, read_bundle, write_bundle
from privet.device.mechanism import load_or_create_key
from privet.device.network import Network
from privet.device.pick import pick
from privet.device.protect import Bundle, Release
from privet.device.quantize import quantized
from privet.device.records import protect_file
from privet.device.rules import Rules
from privet.device.self_test import run_self_test
from privet.device.settings import Settings

__all__ = [
    "Bundle",
    "Network",
    "Release",
    "Rules",
    "Settings",
    "load_bundle",
    "load_or_create_key",
    "pick",
    "protect_file",
    "quantized",
    "read_bundle",
    "run_self_test",
    "write_bundle",
]
