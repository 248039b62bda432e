"""What runs on a person's own device: NumPy and safetensors only, no torch, no SciPy, no network.

Algorithms 1 and 2 of SP-ASPP exist once, here: evaluation calls the same functions.
"""

from privet.device.bundle import load_bundle, write_bundle
from privet.device.mechanism import load_or_create_key
from privet.device.network import Network
from privet.device.protect import Bundle, Release
from privet.device.records import protect_file
from privet.device.rules import Rules
from privet.device.settings import Settings

__all__ = [
    "Bundle",
    "Network",
    "Release",
    "Rules",
    "Settings",
    "load_bundle",
    "load_or_create_key",
    "protect_file",
    "write_bundle",
]
