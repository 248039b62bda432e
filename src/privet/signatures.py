"""Detached signatures: who made a file, and that nobody has changed it since.

A maker signs a bundle once and publishes the public key where people look for it anyway; whoever
has that key notices every other file. The scheme is Ed25519 (RFC 8032), computed by the package
``cryptography``, which is imported when a function needs it.

The signature of ``NAME`` lies beside it as ``NAME.sig``, three lines of ASCII::

    privet signature 1
    key SHA-256, in hexadecimal, of the public key's SubjectPublicKeyInfo in DER
    the 64 bytes of the signature in base64

Signed is the first line with its newline, then the SHA-512 of the file (64 bytes). The ``key`` line
only makes for better messages; what counts is the key that the reader trusts. A signature says
nothing of a file's name, of its age, or that it is the maker's latest.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

from privet.errors import BundleError, OptionError
from privet.files import write_bytes
from privet.tensorfile import MAX_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

HEADER = b"privet signature 1\n"
SHAPE = re.compile(HEADER + rb"key ([0-9a-f]{64})\n([A-Za-z0-9+/]{86}==)\n")
MOST_BYTES = 10_000  # of a key or a signature; each takes a few hundred
BLOCK = 1 << 20


def create_signing_key(private: Path, public: Path) -> str:
    """Make a new pair of keys; return the public key's fingerprint.

    Parameters
    ----------
    private
        Where the signing key goes: PEM, PKCS #8, not encrypted, readable by its owner only. Keep
        it to yourself and away from where the bundles are served.
    public
        Where the key to trust goes: PEM, SubjectPublicKeyInfo. Publish it, or the fingerprint.

    Returns
    -------
    The 64 hexadecimal digits that signatures name in their ``key`` line.

    Raises
    ------
    OptionError
        When either file is there already, neither is then written or changed; or when the package
        ``cryptography`` is missing.
    """
    _require_package()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(private, secret, mode=0o600)
    try:
        _write_new(public, shown, mode=0o644)
    except BaseException:
        private.unlink()
        raise
    return _fingerprint(key.public_key())


def sign(path: Path, private: Path) -> Path:
    """Sign the file at ``path`` and return where its signature is: ``NAME.sig`` beside it.

    An earlier signature of the file is replaced, and anything else by that name is left alone.

    Raises
    ------
    OptionError
        When ``path`` is no file or larger than 4 GiB, ``private`` no signing key of its owner
        alone, the signature's place is taken, or the package ``cryptography`` is missing.
    """
    _require_package()
    key = _private_key(private)
    signature = signature_of(path)
    if signature.exists() and not _start(signature, OptionError).startswith(HEADER):
        raise OptionError(f"{signature} is there and no signature of privet; move it away")
    with _opened(path, OptionError) as file:
        message = HEADER + _sha512(file, OptionError)
    lines = f"key {_fingerprint(key.public_key())}\n".encode()
    lines += base64.b64encode(key.sign(message)) + b"\n"
    write_bytes(signature, HEADER + lines)
    return signature


def signature_of(path: Path) -> Path:
    """Return where the signature of the file at ``path`` is looked for."""
    return path.with_name(f"{path.name}.sig")


def verify(path: Path, trusted: Path) -> str:
    """Check that the file at ``path`` is what the trusted key signed; return the key's fingerprint.

    This speaks of the file as it was read just now. Whoever goes on to load it should load what
    `verified` gives instead, in case others may write where it lies.

    Parameters
    ----------
    trusted
        The maker's public key in PEM, from a place that whoever could change the file cannot
        change.

    Raises
    ------
    BundleError
        When the file or the signature is missing or unreadable, the signature is malformed or
        another key's, the file is larger than 4 GiB, or has changed since it was signed.
    OptionError
        When ``trusted`` is no public key, or the package ``cryptography`` is missing.
    """
    return _check(path, trusted)


@contextmanager
def verified(path: Path, trusted: Path | None) -> Iterator[Path]:
    """Give a path to load the file at ``path`` from, after `verify` has passed.

    It is a private copy, made in the same pass that the signature was checked in, and gone after
    the block: whatever happens to the file meanwhile, what is loaded is what was verified.
    Without a trusted key nothing is checked, and it is ``path`` itself.

    Parameters
    ----------
    path, trusted
        See `verify`. The copy takes the file's size in the folder for temporary files.

    Raises
    ------
    BundleError, OptionError
        See `verify`. A `BundleError` about the copy, raised inside the block, is made to name
        ``path``.
    """
    if trusted is None:
        yield path
        return
    with TemporaryDirectory(prefix="privet-") as folder:
        copy = Path(folder) / path.name
        _check(path, trusted, copy=copy)
        try:
            yield copy
        except BundleError as error:
            raise BundleError(str(error).replace(str(copy), str(path))) from None


def _check(path: Path, trusted: Path, *, copy: Path | None = None) -> str:
    """Verify a file, and write what was read of it to ``copy``."""
    _require_package()
    from cryptography.exceptions import InvalidSignature

    key = _public_key(trusted)
    fingerprint = _fingerprint(key)
    with _opened(path, BundleError) as file:
        name, proof = _read_signature(signature_of(path))
        if name != fingerprint:
            raise BundleError(
                f"{path} is signed by another key ({name[:16]}...) than the one trusted "
                f"({fingerprint[:16]}...); fetch it, or the maker's key, again"
            )
        with _created(copy) as kept:
            message = HEADER + _sha512(file, BundleError, copy=kept)
    try:
        key.verify(proof, message)
    except InvalidSignature:
        raise BundleError(
            f"{path} is not what its signature was made for; fetch both again"
        ) from None
    return fingerprint


def _read_signature(path: Path) -> tuple[str, bytes]:
    """Return the fingerprint that a signature file names, and the signature."""
    if not path.exists():
        raise BundleError(f"there is no signature {path}; fetch it along with the file")
    match = SHAPE.fullmatch(_start(path, BundleError))
    proof = base64.b64decode(match[2]) if match else b""
    # Base64 spells the last byte in 16 ways; there shall be one file for one signature.
    if match is None or base64.b64encode(proof) != match[2]:
        raise BundleError(f"{path} is no signature that this privet can read; fetch it again")
    return match[1].decode(), proof


def _public_key(path: Path) -> "Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_start(path, OptionError))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise OptionError(f"{path} holds no public Ed25519 key in PEM; name the maker's key")
    return key


def _private_key(path: Path) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _start(path, OptionError)
    if b"-----BEGIN PUBLIC KEY-----" in content:
        raise OptionError(f"{path} is a public key; sign with the private one")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise OptionError(f"key {path} can be read by other users; run: chmod 600 {path}")
    try:
        key = load_pem_private_key(content, password=None)
    # A TypeError says that the key is encrypted.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise OptionError(
            f"{path} holds no private Ed25519 key in PEM without a password; name a signing key"
        )
    return key


def _fingerprint(key: "Ed25519PublicKey") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    content = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(content).hexdigest()


def _start(path: Path, error: type[OptionError | BundleError]) -> bytes:
    """Return a small file, or the start of one that is too large to be what it should."""
    with _opened(path, error) as file:
        return file.read(MOST_BYTES)


def _opened(path: Path, error: type[OptionError | BundleError]) -> BinaryIO:
    """Open a file, or raise ``error`` where there is none; a pipe would keep us waiting."""
    if path.exists() and not path.is_file():
        raise error(f"{path} is a folder or a device; name a file")
    try:
        return path.open("rb")
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror or problem}") from None


def _created(path: Path | None) -> AbstractContextManager[BinaryIO | None]:
    return nullcontext() if path is None else path.open("xb")


def _sha512(
    file: BinaryIO, error: type[OptionError | BundleError], *, copy: BinaryIO | None = None
) -> bytes:
    """Return the digest of an open file, and write what was read to ``copy``."""
    digest, size = hashlib.sha512(), os.fstat(file.fileno()).st_size
    while size <= MAX_FILE and (block := file.read(BLOCK)):
        digest.update(block)
        if copy is not None:
            copy.write(block)
        size = max(size, file.tell())  # it may grow
    if size > MAX_FILE:
        raise error(f"{file.name} has {size:,} bytes or more; {MAX_FILE:,} at most can be signed")
    return digest.digest()


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that was not there; `OptionError` if it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    except FileExistsError:
        raise OptionError(f"{path} is there already; choose another place for the key") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
    except BaseException:
        path.unlink()
        raise


def _require_package() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise OptionError(
            "signatures need the package cryptography: pip install 'privet[sign]'"
        ) from None
