"""Sharing: what this cell lends, handed over to cells of the same machine instead of sent: in memory, or as the file that it is.

::

    receiver                                       origin
       │── request zdl/same-host: which bytes ─────▶│  may it have them? the same machine? is there memory?
       │                                            │  copies them into a segment, unless they lie in one already
       │◀── reply: where, a ticket, what is where ──│
       │── connects to the socket of segments ─────▶│  (`zdl.transport.handover`)
       │◀── the segments, or the file ──────────────│

The first one who asks for some bytes has them copied, all others get the same memory; arrays that were born in a segment
(`zdl.download.born`) are not copied at all. What is in a segment is what was lent:
each block is compared, as it is in the copy, with what was noted when it was lent (`zdl.download.guards`); after that
it is a **snapshot**, which an owner who changes his array does not change any more. It is sealed, so nobody can: what
is mapped need not be verified again.

A **file** is handed over open, to be read only: its receiver copies it (`zdl.download.copying`), and sees by its stamp that it
is what was lent.

Everything else is as for any pull: who may ask, the lease, which is renewed while bytes are copied, the confirmation. When
the offer ends, for whatever reason, its segments are handed to nobody any more, and go back to the pool; whoever has mapped one
keeps what he has.

A no is no error: the receiver has its bytes sent, and keeps the reason. `is_lasting`: it need not ask again soon.
"""

from __future__ import annotations

import math
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from zdl.cell.cell import BareCell
from zdl.cell.messages import Request
from zdl.download.arrays import BLOCK_BYTES, Buffers
from zdl.download.puller import CHANNEL
from zdl.download.samehost import SAME_HOST_TOPIC
from zdl.errors import Busy, Cancelled, DecodeError, LeaseEnded, TooLarge, ZdlError
from zdl.objects.manifest import Range, aligned
from zdl.protocol.audiences import ABOUT_TO
from zdl.protocol.messages import Keep

# Segments of one offer: each new part of it that is asked for is one more.
SEGMENTS_MAX = 64
RANGES_MAX = 65_536
# Who waits for bytes to be copied is told so often that it goes on; see `zdl.download.samehost.ANSWER_S`.
TELL_S = 0.1
# A short no is asked for again by every pull; a lasting one, after a while.
SHORT, LASTING = False, True
_ALIGN_BYTES = 64


@runtime_checkable
class InFile(Protocol):
    """What is lent, and lies in a file."""

    def opened(self, offset: int, length: int) -> tuple[int, int] | None:
        """A descriptor, and where in its file these bytes of the stream begin; None when they do not lie there in one piece."""


class NotShared(Exception):
    """Why bytes are not shared; the receiver has them sent.

    Args:
        why: in words.
        is_lasting: whether it will be so for the next offer too.
    """

    def __init__(self, why: str, is_lasting: bool = SHORT) -> None:
        super().__init__(why)
        self.is_lasting = is_lasting


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """Bytes of an offer's stream that lie in one piece in a segment: from `offset` on, `length` of them, at `at` there."""

    offset: int
    length: int
    segment: Any = field(compare=False)
    at: int = field(compare=False)

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.offset + self.length


@dataclass(slots=True)
class _Share:
    """One offer, as far as it is in segments."""

    filling: threading.Lock = field(default_factory=threading.Lock)
    extents: list[Extent] = field(default_factory=list)
    pooled: dict[bytes, Any] = field(default_factory=dict)
    askers_count: int = 0
    is_ended: bool = False


@dataclass(frozen=True, slots=True)
class _Question:
    """What a receiver asks for."""

    keep: Keep
    host: str
    ranges: list[Range]
    unread: frozenset[bytes]
    is_kept: bool
    is_copied: bool
    is_file: bool


class Sharing:
    """The side of a cell that lends in shared memory.

    Threads: all methods from any thread.

    Args:
        cell: it answers there.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._lock = threading.Lock()  # guards the shares, and what is in them but for `filling`
        self._shares: dict[bytes, _Share] = {}
        self._give_back: Callable[[Any], None] = lambda segment: None
        cell.handler(CHANNEL, SAME_HOST_TOPIC, resolve=False)(self._answer)

    @property
    def shares_count(self) -> int:
        """Offers of which something is in segments."""
        with self._lock:
            return len(self._shares)

    def attach(self) -> None:
        """The cell has its lanes."""
        lane = self._cell.lane
        self._give_back = lane.segments.give_back
        lane.lent.on_release(self._released)

    # --- answering ------------------------------------------------------------------------------

    def _answer(self, request: Request) -> object:
        """Where to get it, or why not."""
        try:
            return self._shared(request)
        except NotShared as no:
            return {"why": str(no), "is_lasting": no.is_lasting}
        except (Busy, TooLarge, OSError) as error:
            return {"why": f"{self._cell.fqcn} has no memory for it: {error}", "is_lasting": SHORT}
        except ZdlError as error:  # the receiver hears it again when it has the bytes sent, as the error that it is
            return {"why": str(error), "is_lasting": SHORT}

    def _shared(self, request: Request) -> Mapping[str, object]:
        segments, options = self._cell.lane.segments, self._cell.options.offers
        if not options.same_host:
            raise NotShared(f"the option same_host of what {self._cell.fqcn} lends is off", LASTING)
        if math.isfinite(options.bwlimit_bytes_per_s):
            raise NotShared(f"what {self._cell.fqcn} lends has a limit of bandwidth, which holds for what is sent", LASTING)
        asked = _question(request, self._cell.fqcn)
        if asked.host != segments.host:
            raise NotShared(f"{self._cell.fqcn} runs on another machine, or in another network namespace", LASTING)
        if asked.is_file:
            return self._file(asked)
        with self._lock:
            share = self._shares.setdefault(asked.keep.offer_id, _Share())  # before it is read: its end is heard from now on
            share.askers_count += 1
        try:
            extents = self._covered(share, asked, request)
        finally:
            with self._lock:
                share.askers_count -= 1
                if not share.extents and not share.askers_count and not share.is_ended:
                    del self._shares[asked.keep.offer_id]
        used = list({each.segment.id: each.segment for each in extents}.values())
        with self._lock:
            pooled = set(share.pooled)
        numbers = {each.id: number for number, each in enumerate(used)}

        def give() -> list[int]:
            """On the thread of segments: he is there."""
            with self._lock:
                if share.is_ended:
                    return []
                return segments.give(used, request.origin, is_kept=asked.is_kept)

        address, ticket = segments.handover.promise(give, asked.keep.secret)
        self._cell.lane.lent.shared(asked.keep, asked.ranges)
        return {"address": address, "ticket": ticket, "is_alone": segments.is_alone(used, request.origin), "segments": [
            [each.id, each.size, each.id in pooled] for each in used], "extents": [
                [each.offset, each.length, numbers[each.segment.id], each.at] for each in extents]}

    def _file(self, asked: _Question) -> Mapping[str, object]:
        """The file that is asked for, open."""
        readable = self._cell.lane.lent.readable(asked.keep, is_pull=True)
        (offset, length), *more = asked.ranges
        found = readable.opened(offset, length) if isinstance(readable, InFile) and not more else None
        if found is None:
            raise NotShared("what is asked for does not lie in a file as it is")
        descriptor, place = found

        def give() -> list[int]:
            """On the thread of segments: he is there. The file is open as long as this holds what reads it."""
            return [os.dup(descriptor)] if isinstance(readable, InFile) else []

        address, ticket = self._cell.lane.segments.handover.promise(give, asked.keep.secret)
        return {"address": address, "ticket": ticket, "place": place}

    def _covered(self, share: _Share, asked: _Question, request: Request) -> list[Extent]:
        """Has all that is asked for in segments. Returns where."""
        readable = self._readable(asked.keep)
        told_at = time.monotonic()
        while not share.filling.acquire(timeout=TELL_S):  # another receiver's bytes are being copied, maybe the same ones
            request.progress()
            readable = self._readable(asked.keep)
        try:
            missing = self._missing(share, asked.ranges, readable)
            added = [Extent(offset, length, home.segment, at) for each in missing
                     for offset, length, home, at in readable.placed(*each) if home is not None]
            missing = [(offset, length) for each in missing for offset, length, home, _ in readable.placed(*each) if home is None]
            filled = self._filled(readable, missing, asked, request) if missing else []
            with self._lock:
                is_ended = share.is_ended
                if not is_ended:
                    share.extents = sorted([*share.extents, *added, *filled])
                    share.pooled.update((each.segment.id, each.segment) for each in filled)
            if is_ended:
                for each in filled[:1]:
                    self._give_back(each.segment)
                raise LeaseEnded(ref=f"ref:{asked.keep.offer_id[:4].hex()}…", origin=self._cell.fqcn, how="it has ended")
        finally:
            share.filling.release()
        if time.monotonic() > told_at + TELL_S:
            request.progress()
        with self._lock:
            return [part for each in asked.ranges for part in _parts(share.extents, each)]

    def _missing(self, share: _Share, ranges: Sequence[Range], readable: Buffers) -> list[Range]:
        """What is in no segment yet."""
        if ranges[-1][0] + ranges[-1][1] > readable.nbytes:
            raise DecodeError(what=f"bytes up to {sum(ranges[-1])} are asked for of an offer of {readable.nbytes}")
        with self._lock:
            missing = [part for each in ranges for part in _missing(share.extents, each)]
            count = len(share.pooled)
        if missing and count >= SEGMENTS_MAX:
            raise NotShared(f"its offer is in {count} segments already, one for each part that was asked for")
        return missing

    def _readable(self, keep: Keep) -> Buffers:
        """What is lent; whoever asks is at it."""
        readable = self._cell.lane.lent.readable(keep, is_pull=True)
        if not isinstance(readable, Buffers):
            raise NotShared("it does not lie in memory: it is read, or made, when it is asked for")
        return readable

    def _filled(self, readable: Buffers, ranges: Sequence[Range], asked: _Question, request: Request) -> list[Extent]:
        """A segment with these bytes."""
        segments = self._cell.lane.segments
        places: list[tuple[Range, int]] = []
        end = 0
        for offset, length in ranges:
            at = aligned(end) + offset % _ALIGN_BYTES  # so that arrays begin where the processor likes it, as in the stream
            places.append(((offset, length), at))
            end = at + length
        # What is copied needs as much again, of which the system may not know yet: pages are taken when they are written to.
        segment = segments.take(end, asker=request.origin, unread=asked.unread, beside=end if asked.is_copied else 0)
        is_filled = False
        try:
            writer = _Writer(segment)
            done = 0
            told_at = time.monotonic()
            for (offset, length), at in places:
                writer.skip_to(at)
                for start, size in readable.blocks(offset, length):
                    writer.copy(readable, start, size)
                    done += size
                    if time.monotonic() > told_at + TELL_S:
                        told_at = time.monotonic()
                        if request.abort.is_triggered:
                            raise Cancelled(what="the copy of what is lent", why=f"{request.origin} does not wait any more")
                        request.progress({"done": done})
                        self._readable(asked.keep)
            writer.finish()
            is_filled = True
        finally:
            if not is_filled:
                segments.drop(segment)
        return [Extent(offset, length, segment, at) for (offset, length), at in places]

    def _released(self, offer_id: bytes) -> None:
        """On the lane: nobody may pull it any more."""
        with self._lock:
            share = self._shares.pop(offer_id, None)
            if share is None:
                return
            share.is_ended = True
            pooled, share.pooled, share.extents = share.pooled, {}, []
        for segment in pooled.values():
            self._give_back(segment)


class _Writer:
    """Fills a segment from its beginning to its end; nothing of what was in it before is left."""

    def __init__(self, segment: Any) -> None:
        self._segment = segment
        self._at = 0
        self._scratch = memoryview(b"") if segment.is_sealed else memoryview(bytearray(2 * BLOCK_BYTES))

    def copy(self, readable: Buffers, offset: int, length: int) -> None:
        """The next bytes: into memory that is there, or by the system, which says so when there is none left."""
        if self._segment.is_sealed:
            readable.copy_into(offset, self._segment.memory[self._at:self._at + length])
        else:
            place = self._scratch[:length]
            readable.copy_into(offset, place)
            self._segment.write(self._at, [place])
        self._at += length

    def skip_to(self, at: int) -> None:
        """Zeros up to there."""
        while self._at < at:
            zeros = bytes(min(at - self._at, BLOCK_BYTES))
            if self._segment.is_sealed:
                self._segment.memory[self._at:self._at + len(zeros)] = zeros
            else:
                self._segment.write(self._at, [zeros])
            self._at += len(zeros)

    def finish(self) -> None:
        """Zeros to the end, and the seals."""
        self.skip_to(self._segment.size)
        if not self._segment.is_sealed:
            self._segment.seal()


def _question(request: Request, me: str) -> _Question:
    """What is asked for.

    Raises:
        DecodeError: it is no question.
    """
    body = request.body
    if not isinstance(body, dict):
        raise DecodeError(what="no question for a segment")
    offer_id, secret, host = body.get("offer"), body.get("secret"), body.get("host")
    ranges, unread = body.get("ranges"), body.get("unread", [])
    if not (isinstance(offer_id, bytes) and isinstance(secret, bytes) and isinstance(host, str)):
        raise DecodeError(what="a question for a segment names no offer")
    if not (isinstance(ranges, list) and 0 < len(ranges) <= RANGES_MAX and all(_is_range(each) for each in ranges)
            and all(one[0] + one[1] <= other[0] for one, other in zip(ranges, ranges[1:]))):
        raise DecodeError(what=f"a question for a segment names no ranges in order, or more than {RANGES_MAX}")
    if not (isinstance(unread, list) and all(isinstance(each, bytes) for each in unread)):
        raise DecodeError(what="a question for a segment says nothing of those that are mapped")
    return _Question(Keep(request.origin, me, ABOUT_TO, offer_id, secret), host, [(each[0], each[1]) for each in ranges],
                     frozenset(unread), *(body.get(each) is True for each in ("is_kept", "is_copied", "is_file")))


def _is_range(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value) and (
        value[0] >= 0 and value[1] > 0)


def _missing(extents: Sequence[Extent], wanted: Range) -> list[Range]:
    """What of a range is in no segment; extents are in order, and have no byte in common."""
    found = []
    at, end = wanted[0], wanted[0] + wanted[1]
    for extent in extents[max(0, bisect_right(extents, at, key=lambda each: each.offset) - 1):]:
        if extent.offset >= end:
            break
        if extent.offset > at:
            found.append((at, extent.offset - at))
        at = max(at, extent.end)
    if at < end:
        found.append((at, end - at))
    return found


def _parts(extents: Sequence[Extent], wanted: Range) -> list[Extent]:
    """Where a range is, all of which is in segments."""
    found = []
    offset, end = wanted[0], wanted[0] + wanted[1]
    for extent in extents[max(0, bisect_right(extents, offset, key=lambda each: each.offset) - 1):]:
        start, stop = max(offset, extent.offset), min(end, extent.end)
        if start < stop:
            found.append(Extent(start, stop - start, extent.segment, extent.at + start - extent.offset))
    return found
