"""Digests: what a chunk is verified with, and what lent objects look like to those who make chunks of them.

BLAKE3 is strong against anybody. XXH3 is quick, and keyed with the secret of the ref, so that nothing that was made for another one
passes: it finds what goes wrong, and is no proof against who sees digests and wants to deceive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from blake3 import blake3
from xxhash import xxh3_128

from zdl.protocol.messages import Part, Verify

# Of the secret, for what XXH3 calls its seed.
SEED_BYTES = 8


class Readable(Protocol):
    """A lent object as one stream of bytes."""

    @property
    def may_block(self) -> bool:
        """Whether `read` may wait for a disk or a user's code, and so must not run on the lane."""

    def read(self, offset: int, length: int) -> Sequence[Part]:
        """The byte range as it was lent, in one or more pieces that stay valid until they are sent."""

    def as_is(self, offset: int, length: int) -> Sequence[Part]:
        """The same, for one who has the digest of what was lent: whether this is that need not be looked at."""
        return self.read(offset, length)

    def noted(self, offset: int, length: int, verify: Verify) -> bytes | None:
        """The digest of exactly these bytes, if it was taken when they were lent."""
        return None


class Digest(Protocol):
    """What a chunk is hashed with."""

    def update(self, data: Part, /) -> object:
        """Further bytes."""

    def digest(self) -> bytes:
        """Of all bytes so far."""


def digest_for(verify: Verify, secret: bytes) -> Digest | None:
    """A fresh digest of this kind, None for none; the quick one is keyed with the secret of the ref."""
    match verify:
        case Verify.BLAKE3:
            return blake3()
        case Verify.XXH3:
            return xxh3_128(seed=int.from_bytes(secret[:SEED_BYTES], "little"))
        case Verify.NONE:
            return None


def digest_of(verify: Verify, secret: bytes, parts: Sequence[Part]) -> bytes:
    """The digest of the parts as one."""
    digest = digest_for(verify, secret)
    if digest is None:
        return b""
    for part in parts:
        digest.update(part)
    return digest.digest()
