"""Anchors: the chain of the log, written down where its database cannot reach."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from rootstream_db.errors import ConfigurationError, SyncError, ValidationError
from rootstream_db.repositories.events import LogHead

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_PURPOSE: Final = b"rootstream-db event log anchor 1\n"  # what is signed is good for nothing else


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """What the log said about itself at a time: every event up to ``last_position`` is in it."""

    log_id: int
    epoch: uuid.UUID
    last_position: int
    chain: bytes
    time: datetime

    @classmethod
    def of(cls, head: LogHead, time: datetime) -> Anchor:
        """Return the anchor of a log that ends at ``head``."""
        return cls(**head._asdict(), time=time)

    def as_line(self, key: Ed25519PrivateKey | None = None) -> bytes:
        """Return the anchor as a line of JSON, signed if there is a key."""
        facts = self._facts()
        if key is not None:
            facts["signature"] = base64.b64encode(key.sign(_signed(facts))).decode()
        return orjson.dumps(facts) + b"\n"

    def _facts(self) -> dict[str, Any]:
        return {
            "log_id": self.log_id,
            "epoch": str(self.epoch),
            "last_position": self.last_position,
            "chain": self.chain.hex(),
            "time": self.time.isoformat(),
        }


def append_anchor(path: Path, anchor: Anchor, key: Ed25519PrivateKey | None = None) -> None:
    """Append an anchor to a file and have it on disk before returning."""
    with path.open("ab") as file:
        file.write(anchor.as_line(key))
        file.flush()
        os.fsync(file.fileno())


def read_anchors(path: Path, key: Ed25519PublicKey | None = None) -> Iterator[Anchor]:
    """Yield the anchors of a file; with a key, each must be signed by it.

    Raises:
        SyncError: an anchor has no signature by the key.
        ValidationError: a line is no anchor.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{path}, line {number}"
            facts = _parsed(line, place)
            if key is not None:
                _require_signature(facts, key, place)
            yield _anchor(facts, place)


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Return the Ed25519 key that signs anchors, from a PEM file without a password.

    Raises:
        ConfigurationError: the file holds no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is no readable private key in PEM form") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is not an Ed25519 key")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Return the Ed25519 key that checks anchors, from a PEM file.

    Raises:
        ConfigurationError: the file holds no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no readable public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"{path} is not an Ed25519 key")
    return key


def _signed(facts: dict[str, Any]) -> bytes:
    return _PURPOSE + orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)


def _require_signature(facts: dict[str, Any], key: Ed25519PublicKey, place: str) -> None:
    from cryptography.exceptions import InvalidSignature

    unsigned = {name: value for name, value in facts.items() if name != "signature"}
    try:
        key.verify(base64.b64decode(facts.get("signature") or "", validate=True), _signed(unsigned))
    except (InvalidSignature, ValueError, TypeError) as error:
        raise SyncError(f"{place}: the anchor is not signed by this key", place=place) from error


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    try:
        facts = orjson.loads(line)
    except orjson.JSONDecodeError:
        facts = None
    if not isinstance(facts, dict):
        raise ValidationError(f"{place}: an anchor is a JSON object", field="anchors")
    return facts


def _anchor(facts: dict[str, Any], place: str) -> Anchor:
    try:
        return Anchor(
            log_id=int(facts["log_id"]),
            epoch=uuid.UUID(facts["epoch"]),
            last_position=int(facts["last_position"]),
            chain=bytes.fromhex(facts["chain"]),
            time=datetime.fromisoformat(facts["time"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValidationError(f"{place}: not an anchor: {error}", field="anchors") from error
