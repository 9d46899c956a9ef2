"""Chunks: what was asked for, read from lent objects and hashed; and hashes compared on arrival.

Each chunk is hashed once at each end, while it is in the cache: by BLAKE3 (0.15 s per GiB and end), or by XXH3 (0.035 s)
keyed with the secret of the ref. The origin remembers digests, or has them from when the object was lent: then a chunk costs it
no look at its bytes. An object that was changed meanwhile does not pass for what was lent: its receiver finds another digest, asks
again, and what is asked for again is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from zdl.errors import OriginFailed, ZdlError
from zdl.protocol.digests import Readable, digest_for, digest_of
from zdl.protocol.messages import Ask, Chunk, Part, Verify
from zdl.transport.links import Incoming

# Digests kept per offer: 32 bytes for each MiB, 8 GiB of an offer with chunks of 1 MiB.
DIGESTS_MAX = 8192
# Pulls of a cell of which it is known how far they are, those that asked last: at most 1 MiB. Of one that is forgotten what is
# asked for again counts as new once.
REACHED_MAX = 4096


class _Reached:
    """How far the last pulls have asked, of all that a cell lends: each receiver of each offer would have to be remembered else.

    What is forgotten seems to be new, so it has to be asked for once more until it is seen to be asked for again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the one below
        self._ends: dict[tuple[str, int], int] = {}

    def is_again(self, ask: Ask) -> bool:
        """Whether its pull has asked for this before, or so it seems: mostly it asks for one after the other."""
        pull = (ask.origin, ask.id)
        with self._lock:
            before = self._ends.pop(pull, 0)
            self._ends[pull] = max(before, ask.offset + ask.length)
            if len(self._ends) > REACHED_MAX:
                del self._ends[next(iter(self._ends))]
        return ask.offset < before


@dataclass(slots=True)
class _Lending:
    """One offer's object, and the digests of its chunks."""

    readable: Readable
    digests: dict[tuple[int, int, Verify], bytes] = field(default_factory=dict)

    def known(self, ask: Ask) -> bytes | None:
        """The digest of a chunk, if nobody has to hash it."""
        if ask.verify is Verify.NONE:
            return None
        found = self.digests.get((ask.offset, ask.length, ask.verify))
        return self.readable.noted(ask.offset, ask.length, ask.verify) if found is None else found

    def read(self, ask: Ask, known: bytes | None, *, is_again: bool) -> tuple[Sequence[Part], bytes]:
        """The chunk and its digest."""
        if is_again or known is None:
            parts = self.readable.read(ask.offset, ask.length)
        else:
            parts = self.readable.as_is(ask.offset, ask.length)
        return parts, self._hashed(ask, parts) if known is None else known

    def _hashed(self, ask: Ask, parts: Sequence[Part]) -> bytes:
        found = digest_of(ask.verify, ask.secret, parts)
        if found and len(self.digests) < DIGESTS_MAX:
            self.digests[ask.offset, ask.length, ask.verify] = found
        return found


class Chunks:
    """The objects that a cell lends, by offer.

    Threads: `add` and `release` on the lane; `make` on the lane, or for what may block on a broker's thread.

    Args:
        fqcn: the cell.
    """

    def __init__(self, fqcn: str) -> None:
        self._fqcn = fqcn
        self._lendings: dict[bytes, _Lending] = {}
        self._reached = _Reached()

    def add(self, offer_id: bytes, readable: Readable) -> None:
        """Lend it."""
        self._lendings[offer_id] = _Lending(readable)

    def release(self, offer_id: bytes) -> None:
        """Let go of it."""
        self._lendings.pop(offer_id, None)

    def readable(self, offer_id: bytes) -> Readable:
        """What is lent under this id; it is lent."""
        return self._lendings[offer_id].readable

    def may_block(self, ask: Ask) -> bool:
        """Whether making this chunk may wait for a disk or a user's code."""
        return self._lendings[ask.offer_id].readable.may_block

    def make(self, ask: Ask) -> Chunk | ZdlError:
        """The chunk that was asked for, or why there is none."""
        lending = self._lendings.get(ask.offer_id)
        if lending is None:  # released while it waited for a thread
            return OriginFailed(ref=_label(ask), origin=self._fqcn, why="it is no longer lent")
        try:
            parts, digest = lending.read(ask, lending.known(ask), is_again=self._reached.is_again(ask))
        except ZdlError as error:
            return error.with_traceback(None)  # whose frames would hold what is lent beyond its end
        except (OSError, ValueError) as error:
            return OriginFailed(ref=_label(ask), origin=self._fqcn, why=f"{type(error).__name__}: {error}")
        return Chunk(self._fqcn, ask.origin, ask.id, ask.offset, ask.length, ask.verify, digest, tuple(parts))


def landed(chunk: Chunk, view: memoryview, incoming: Incoming | None, secret: bytes) -> bool:
    """Put a chunk into place. Returns whether it is whole, and the bytes are those that were hashed.

    Args:
        chunk: what came.
        view: its place; what is there afterwards is to be used only when this says True.
        incoming: the frames that are still to be read, or None when they are the body of the chunk.
        secret: of the ref that is pulled.
    """
    digest = digest_for(chunk.verify, secret)
    if incoming is not None:
        is_whole = incoming.into(view, None if digest is None else digest.update)
    else:
        is_whole = copied(chunk.body, view)
        if digest is not None and is_whole:
            digest.update(view)
    return is_whole and (digest is None or digest.digest() == chunk.digest)


def copied(parts: Sequence[Part], view: memoryview) -> bool:
    """From frames that came over no socket, into place; False when they are not exactly as long."""
    at = 0
    for part in parts:
        if at + len(part) > view.nbytes:
            return False
        view[at:at + len(part)] = part
        at += len(part)
    return at == view.nbytes


def _label(ask: Ask) -> str:
    return f"ref:{ask.offer_id[:4].hex()}…"
