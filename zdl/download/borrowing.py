"""Borrowing: taking what others lend out of memory that both cells share, where the origin is on the same machine.

It is tried, not configured: the origin is asked (`zdl.download.sharing`), its segments are fetched and mapped, and whatever says
no on that way is a reason to have the bytes sent instead, which is kept in the transfer. A reason that will be the same
next time (another machine) is remembered for a while.

What comes out of a segment is used **in place**, mapped copy-on-write: nothing is copied, and what the user writes to his arrays
is his alone. Where he has given memory, it is copied there. Only then is it pulled in the sense of the protocol: all of it is
here already, and is confirmed.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from zdl.cell.cell import BareCell
from zdl.cell.messages import Reply
from zdl.cell.signal import Signal
from zdl.download.puller import CHANNEL
from zdl.download.sharing import SEGMENT_TOPIC
from zdl.download.sinks import overlapping
from zdl.errors import Cancelled, Closed, TimedOut, ZdlError
from zdl.objects.arrays import restore
from zdl.objects.manifest import Range, merge_ranges
from zdl.refs import Ref, Source

# A reason that lasts is believed for so long.
WHY_KEPT_S = 30.0
WHY_MAX = 4096
# Somebody who has just said that he is there answers at once.
TAKE_S = 2.0
# What is copied before it is looked whether anybody still waits.
STEP_BYTES = 64 << 20


class Waiting(Protocol):
    """Who waits for it."""

    @property
    def abort(self) -> Signal | None:
        """Ends the wait."""

    def left_s(self) -> float | None:
        """How long he waits still; None: without a bound."""

    def renew(self) -> None:
        """Bytes are on their way."""

    def check(self) -> None:
        """Raises `TimedOut` or `Cancelled` when he does not wait any more."""


class _No(Exception):
    """Why it cannot be had; `is_lasting`: and will not be the next time."""

    def __init__(self, why: str, *, is_lasting: bool) -> None:
        super().__init__(why)
        self.is_lasting = is_lasting


@dataclass(frozen=True, slots=True)
class _Told:
    """One segment, as its origin tells of it; one that is not of its pool is an array of the user's there."""

    id: bytes
    size: int
    is_pooled: bool


class Borrowed:
    """Bytes of one offer, where they are.

    Args:
        extents: offset in the stream, length, and the memory, in order.
    """

    def __init__(self, extents: Sequence[tuple[int, memoryview]]) -> None:
        self._starts = [offset for offset, _ in extents]
        self._memories = [memory for _, memory in extents]

    def check(self, ranges: Sequence[Range]) -> None:
        """Raises `ValueError` where some byte of these is not there."""
        for offset, length in ranges:
            if sum(piece.nbytes for piece in self.pieces(offset, length)) != length:
                raise ValueError(f"bytes {offset} to {offset + length} are not all in what was handed over")

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """The byte range, in order."""
        end = offset + length
        for number in range(max(0, bisect_right(self._starts, offset) - 1), len(self._starts)):
            start, memory = self._starts[number], self._memories[number]
            if start >= end:
                return
            yield memory[max(0, offset - start):end - start]

    def copied(self, offset: int, into: memoryview, go_on: Callable[[], None] = lambda: None) -> None:
        """Copies what lies from `offset` on; `go_on` is called now and then, and may raise."""
        at = 0
        for piece in self.pieces(offset, into.nbytes):
            for start in range(0, piece.nbytes, STEP_BYTES):
                part = piece[start:start + STEP_BYTES]
                np.copyto(np.frombuffer(into[at:at + part.nbytes], np.uint8), np.frombuffer(part, np.uint8))
                at += part.nbytes
                go_on()


class SharedSink:
    """Items that are here already, in shared memory; see `zdl.download.puller.Sink`. There is nothing to receive.

    Args:
        refs: the items.
        borrowed: where they are.
    """

    def __init__(self, refs: Sequence[Ref], borrowed: Borrowed | None) -> None:
        self._borrowed = borrowed
        self._doubled = overlapping(refs)
        self.ranges: list[tuple[int, int]] = []
        self.have: list[tuple[int, int]] = merge_ranges((ref.offset, ref.length) for ref in refs)

    @property
    def may_block(self) -> bool:
        """Nothing is left to do."""
        return False

    def view(self, offset: int, length: int) -> memoryview:
        """No chunk comes."""
        raise AssertionError("nothing was asked for")

    def keep(self, offset: int, view: memoryview) -> None:
        """No chunk comes."""

    def finish(self) -> None:
        """Memory lasts as long as it does."""

    def take(self, ref: Ref) -> object:
        """The item: a writable array, or bytes."""
        assert self._borrowed is not None
        pieces = list(self._borrowed.pieces(ref.offset, ref.length)) if ref.length else [memoryview(b"")]
        raw = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        if ref.kind == "array":
            return restore(ref.dtype, ref.shape, raw, copy=not ref.length or ref in self._doubled or len(pieces) > 1)
        return bytes(raw)


class Borrower:
    """The side of a cell that takes what others share.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: it asks origins.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._lock = threading.Lock()  # guards the two below
        self._whys: dict[str, tuple[float, str]] = {}
        self._copying: set[str] = set()

    def in_place(self, source: Source, refs: Sequence[Ref], waiting: Waiting) -> tuple[SharedSink | None, str]:
        """Items of an offer, mapped; or None, and why not.

        Args:
            source: the offer.
            refs: the items.
            waiting: see `zdl.download.fetching.Waiting`.

        Raises:
            TimedOut, Cancelled, Closed: nobody waits any more.
        """
        ranges = merge_ranges((ref.offset, ref.length) for ref in refs)
        why = self._why_not(source, ranges)
        if why is not None:
            return None, why
        try:
            return SharedSink(refs, self._mapped(source, ranges, waiting)), ""
        except _No as no:
            return None, self._noted(source.origin, no)

    def copied(self, source: Source, places: Mapping[Ref, memoryview], waiting: Waiting) -> tuple[SharedSink | None, str]:
        """Items of an offer, copied to where they shall be; or None, and why not.

        Raises:
            TimedOut, Cancelled, Closed: nobody waits any more; what is in the memory is undefined.
        """
        ranges = merge_ranges((ref.offset, ref.length) for ref in places)
        why = self._why_not(source, ranges)
        if why is not None:
            return None, why
        with self._alone(source.origin) as is_alone:
            try:
                borrowed = self._viewed(source, ranges, waiting, is_alone=is_alone)
            except _No as no:
                return None, self._noted(source.origin, no)
            for ref, memory in places.items():
                borrowed.copied(ref.offset, memory, waiting.check)
        return SharedSink(list(places), None), ""

    # --- inside ---------------------------------------------------------------------------------

    def _why_not(self, source: Source, ranges: Sequence[Range]) -> str | None:
        """Why it is not even asked for; empty where nobody would expect it; None: it is."""
        options = self._cell.options.pulls
        if not options.same_host:
            return "the option same_host of this cell's pulls is off"
        if source.origin == self._cell.fqcn or sum(length for _, length in ranges) < options.same_host_bytes_min:
            return ""
        if options.verify not in ("auto", "none"):
            return f"the option verify={options.verify} of this cell's pulls asks for a digest of what is sent"
        with self._lock:
            until, why = self._whys.get(source.origin, (0.0, ""))
        return why if time.monotonic() < until else None

    def _mapped(self, source: Source, ranges: Sequence[Range], waiting: Waiting) -> Borrowed:
        """Copy-on-write."""
        told = self._told(source, ranges, frozenset(), waiting, is_kept=False)
        mapped = self._cell.lane.segments.mapped
        return self._fetched(source, told, ranges, lambda each, descriptor: mapped(descriptor, each.size))

    def _viewed(self, source: Source, ranges: Sequence[Range], waiting: Waiting, *, is_alone: bool) -> Borrowed:
        """To be read only, at once; who is alone in this may use again what was mapped before."""
        segments = self._cell.lane.segments
        unread = segments.unread(source.origin, source.offer_id) if is_alone else frozenset()
        told = self._told(source, ranges, unread, waiting, is_kept=is_alone)

        def mapped(each: _Told, descriptor: int) -> memoryview:
            """One segment."""
            if is_alone and each.is_pooled:
                return segments.view(source.origin, source.offer_id, each.id, descriptor, size=each.size,
                                     is_alone=told.get("is_alone") is True)
            return segments.mapped(descriptor, each.size)

        return self._fetched(source, told, ranges, mapped)

    @contextmanager
    def _alone(self, origin: str) -> Iterator[bool]:
        """Whether nobody else here copies out of segments of this origin until the end of the block."""
        with self._lock:
            is_alone = origin not in self._copying
            self._copying.add(origin)
        try:
            yield is_alone
        finally:
            if is_alone:
                with self._lock:
                    self._copying.discard(origin)

    def _told(self, source: Source, ranges: Sequence[Range], unread: frozenset[bytes], waiting: Waiting, *,
              is_kept: bool) -> Mapping[str, Any]:
        """What the origin answers."""
        question = {"offer": source.offer_id, "secret": source.secret, "host": self._cell.lane.segments.host,
                    "ranges": [list(each) for each in ranges], "unread": list(unread), "is_kept": is_kept}
        asked = self._cell.request_future(
            source.origin, CHANNEL, SEGMENT_TOPIC, question, timeout_s=self._cell.options.pulls.lost_timeout_s,
            abort=waiting.abort, resolve=False, optional=True, on_progress=lambda facts: waiting.renew())
        reply: Reply | None = None
        while reply is None:
            try:
                reply = asked.result(waiting.left_s())
            except (Cancelled, Closed):
                raise
            except ZdlError as error:
                is_lasting = isinstance(error, TimedOut)
                raise _No(f"{source.origin} did not say where its memory is: {error}", is_lasting=is_lasting) from error
            except TimeoutError:
                asked.cancel()
                waiting.check()
        told = reply.body
        if not isinstance(told, dict):
            raise _No(f"{source.origin} did not say where its memory is, but {str(told):.80}", is_lasting=True)
        if "why" in told:
            raise _No(str(told["why"]), is_lasting=told.get("is_lasting") is True)
        return told

    def _fetched(self, source: Source, told: Mapping[str, Any], ranges: Sequence[Range],
                 mapped: Callable[[_Told, int], memoryview]) -> Borrowed:
        """What the origin hands over."""
        descriptors: list[int] = []
        try:
            wanted = [_Told(*each) for each in told["segments"]]
            descriptors = self._cell.lane.segments.fetch(
                str(told["address"]), bytes(told["ticket"]), source.secret, count=len(wanted), timeout_s=TAKE_S)
            memories = [mapped(each, number) for each, number in zip(wanted, descriptors)]
            borrowed = Borrowed(_placed(told["extents"], memories))
            borrowed.check(ranges)
            return borrowed
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise _No(f"the memory of {source.origin} cannot be had here: {error}",
                      is_lasting=isinstance(error, ConnectionError)) from error
        finally:
            for each in descriptors:
                os.close(each)

    def _noted(self, origin: str, no: _No) -> str:
        if no.is_lasting:
            with self._lock:
                self._whys[origin] = time.monotonic() + WHY_KEPT_S, str(no)
                while len(self._whys) > WHY_MAX:
                    del self._whys[next(iter(self._whys))]
        return str(no)


def _placed(extents: Sequence[Any], memories: Sequence[memoryview]) -> list[tuple[int, memoryview]]:
    """Where the origin says that each byte is: offset in the stream, and the memory.

    Raises:
        LookupError, TypeError, ValueError: what it says makes no sense.
    """
    found = []
    for offset, length, number, at in extents:
        memory = memories[number][at:at + length]
        if at < 0 or memory.nbytes != length:
            raise ValueError(f"bytes {at} to {at + length} are not within a segment of {memories[number].nbytes}")
        found.append((offset, memory))
    return sorted(found, key=lambda each: each[0])
