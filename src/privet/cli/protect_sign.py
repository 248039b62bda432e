"""`privet protect keygen` and `sign`: who made a bundle, for those who trust the maker."""

from pathlib import Path

from privet.cli.console import Json, answer


def keygen(*, private: Path, public: Path, json: Json = False) -> None:
    """Make a pair of Ed25519 keys to sign bundles with.

    Publish the public key, and its fingerprint where others can compare it. Keep the private one:
    whoever has it can sign as you.

    Parameters
    ----------
    private
        The new file for the private key, which only you can read.
    public
        The new file for the public key.
    json
        Print the fingerprint as one JSON object.
    """
    from privet.signatures import create_signing_key

    fingerprint = create_signing_key(private, public)
    answer(
        {"fingerprint": fingerprint, "private": str(private), "public": str(public)},
        f"wrote {private}, to be kept secret, and {public}, to be published",
        f"fingerprint: {fingerprint}",
        as_json=json,
    )


def sign(file: Path, *, key: Path, json: Json = False) -> None:
    """Sign a bundle, or any other file, so that others can tell that it is yours.

    The signature is a file of its own, FILE.sig, to be published beside FILE. With --trusted KEY,
    `privet protect apply`, `check` and `serve` refuse bundles that were not signed by KEY.

    Parameters
    ----------
    file
        What to sign.
    key
        Your private key, from `privet protect keygen`.
    json
        Print where the signature is as one JSON object.
    """
    from privet.signatures import sign as write_signature

    signature = write_signature(file, key)
    answer({"signature": str(signature)}, f"wrote {signature}", as_json=json)
