"""Fetching: from refs to what they stand for, in as few pulls as possible.

::

    find the refs ─▶ parts that do not lie in one piece ─▶ asked of their origins, slab by slab (`zdl.download.gathering`)
                  ─▶ all others ─▶ per offer one pull into fresh memory, one into memory that was given
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from zdl.cell.cell import BareCell
from zdl.cell.messages import Reply
from zdl.download.borrowing import Borrower, CopyingSink, SharedSink
from zdl.download.gathering import GATHER_TOPIC, SLAB_BYTES_MAX, SLAB_PARTS_MAX, parts_of
from zdl.download.given import GivenSink
from zdl.download.patience import Limits, Patience
from zdl.download.puller import CHANNEL, NO_TRANSFERS, Progress, Puller, Sink, Transfer
from zdl.download.sinks import MemorySink, taken
from zdl.download.tensors import as_array, fetched
from zdl.errors import Busy, Cancelled, Closed, NoRoute, OriginFailed, OriginLost, PeerLost, TimedOut, ZdlError, from_wire
from zdl.objects import arrays
from zdl.objects.externalize import find_refs, replace_refs
from zdl.objects.manifest import merge_ranges
from zdl.objects.places import LEFT_KINDS, Places, memory_for
from zdl.protocol.effects import Post
from zdl.protocol.messages import Drop
from zdl.protocol.offers import RELEASED
from zdl.refs import Ref, Source

Near = TypeVar("Near", SharedSink, CopyingSink)
# Pauses before an origin that has no memory for a slab is asked again.
BUSY_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)


class Fetcher:
    """The fetching side of a cell.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: asks origins.
        puller: pulls from them.
        borrower: takes what is in memory of this machine; None: all is received.
    """

    def __init__(self, cell: BareCell, puller: Puller, borrower: Borrower | None = None) -> None:
        self._cell = cell
        self._puller = puller
        self._borrower = borrower

    def pull(self, what: object, into: object = None, limits: Limits = Limits()) -> object:
        """See `DownloadBroker.pull`."""
        if into is not None:
            places = Places(self._cell.types.tensors)
            found = places.put(what, into)
            self.fetch(list(places.first), places.first, limits)
            places.finish()
            return found
        if isinstance(what, Ref):
            return self.fetch([what], {}, limits)[what]
        return self.resolve(what, limits)

    def resolve(self, body: object, limits: Limits) -> object:
        """The same object with arrays and bytes in place of its refs; itself when it has none. What is of `LEFT_KINDS` stays."""
        found = find_refs(body)
        refs = [ref for ref in found if ref.kind not in LEFT_KINDS]
        if not refs:
            return body
        left = {ref: ref for ref in found if ref.kind in LEFT_KINDS}
        return replace_refs(body, {**left, **self.fetch(refs, {}, limits)})

    def release(self, what: object) -> None:
        """See `DownloadBroker.release`."""
        sources = dict.fromkeys(ref.source for ref in find_refs(what))
        drops = [Post(Drop(self._cell.fqcn, each.origin, 0, each.offer_id, each.secret, RELEASED)) for each in sources]
        self._cell.lane.lent.change(lambda offers, now: drops)

    def fetch(self, refs: Sequence[Ref], given: Mapping[Ref, memoryview], limits: Limits) -> Mapping[Ref, object]:
        """What the refs stand for; those with memory in `given` land there."""
        if given:
            return self._fetch(refs, given, limits)
        return fetched(refs, lambda plain: self._fetch(plain, {}, limits), wanted=self._cell.options.packing.tensors)

    def scattered(self, places: Mapping[Ref, int], keep: Callable[[int, memoryview], None], limits: Limits) -> None:
        """Parts that their origins have to gather, a slab at a time, without more than that in memory.

        Args:
            places: the parts, and where the bytes of each begin.
            keep: takes bytes to their place.
            limits: see `Limits`.
        """
        if not places:
            return
        run = _Run(self._puller, list(places), limits)
        memory = memoryview(bytearray(min(SLAB_BYTES_MAX, run.bytes_total)))
        for batch in _batches(places):
            end, wanted = 0, {}
            for part, place in batch:
                wanted[part] = memory[end:end + len(place)]
                end += len(place)
            self._gather(wanted, run)
            for part, place in batch:
                keep(place.start, wanted[part])

    # --- inside ---------------------------------------------------------------------------------

    def _fetch(self, refs: Sequence[Ref], given: Mapping[Ref, memoryview], limits: Limits) -> Mapping[Ref, object]:
        found: dict[Ref, object] = {}
        sinks: list[tuple[Source, Sink]] = []
        fresh: list[tuple[MemorySink | SharedSink, list[Ref]]] = []
        transfers: dict[Sink, Transfer] = {}
        run = _Run(self._puller, refs, limits)
        scattered = {ref: given.get(ref) for ref in refs if ref.strides}
        with ExitStack() as stack:
            for source, batch in _by_source(ref for ref in refs if not ref.strides).items():
                mine = {ref: given[ref] for ref in batch if ref in given} if given else {}
                if mine:
                    transfer = self._puller.note(source, _span(mine))
                    copied = self._near(run, transfer, lambda borrower: stack.enter_context(
                        borrower.copied(source, mine, run.patience, transfer)))
                    given_sink = GivenSink(mine) if copied is None else copied
                    sinks.append((source, given_sink))
                    transfers[given_sink] = transfer
                others = [ref for ref in batch if ref not in given] if given else batch
                if others:
                    transfer = self._puller.note(source, _span(others) if mine or scattered else run.spans[source])
                    shared = self._near(run, transfer, lambda borrower: borrower.in_place(
                        source, others, run.patience, transfer))
                    sink = MemorySink(others) if shared is None else shared
                    sinks.append((source, sink))
                    fresh.append((sink, others))
                    transfers[sink] = transfer
            run.pull(sinks, transfers)
        for memory, others in fresh:
            found.update(taken(memory, others))
        if scattered:
            found.update(self._gather(scattered, run))
        return found

    def _near(self, run: _Run, transfer: Transfer, take: Callable[[Borrower], Near | None]) -> Near | None:
        """What of this machine can be had without sending it; the transfer says why not."""
        if self._borrower is None:
            return None
        try:
            sink = take(self._borrower)
        except ZdlError as error:
            self._puller.ended(transfer, error)
            raise
        run.near_bytes += transfer.bytes_total if isinstance(sink, SharedSink) else 0
        return sink

    def _gather(self, wanted: Mapping[Ref, memoryview | None], run: _Run) -> Mapping[Ref, object]:
        """Parts that their origins have to gather. While one slab is pulled, the next one is being gathered."""
        found: dict[Ref, object] = {}
        todo: list[tuple[Ref, memoryview]] = []
        for ref, memory in wanted.items():
            if memory is None:
                found[ref] = array = arrays.empty(ref.dtype, ref.shape)
                memory = memory_for(ref, array)
            todo += parts_of(as_array(ref), memory)  # their origin need not know tensors
        rows = {ref: memory for ref, memory in todo if not ref.strides}  # a part of a part may lie in one piece
        todo = [(ref, memory) for ref, memory in todo if ref.strides]
        run.pull([(source, GivenSink({ref: rows[ref] for ref in batch})) for source, batch in _by_source(rows).items()])
        waiting: list[tuple[_Slab, concurrent.futures.Future[Reply]]] = []
        try:
            for slab in _slabs(todo):
                waiting.append((slab, self._ask(slab, run)))
                if len(waiting) > 1:
                    self._land(*waiting.pop(0), run)
            for slab, asked in waiting:
                self._land(slab, asked, run)
        finally:
            for _, asked in waiting:  # the fetch has failed; who is not answered yet hears that nobody waits
                if not asked.cancel():
                    asked.add_done_callback(self._let_go)
        return found

    def _ask(self, slab: _Slab, run: _Run) -> concurrent.futures.Future[Reply]:
        left_s = run.patience.left_s()
        timeout_s = self._cell.options.pulls.stall_timeout_s if left_s is None else left_s
        return self._cell.request_future(slab.origin, CHANNEL, GATHER_TOPIC, [ref for ref, _ in slab.parts],
                                         timeout_s=timeout_s, abort=run.limits.abort, resolve=False)

    def _land(self, slab: _Slab, asked: concurrent.futures.Future[Reply], run: _Run) -> None:
        """Takes what an origin has gathered to its place."""
        for pause_s in (*BUSY_PAUSES_S, None):
            try:
                gathered = slab.answered(asked)
                break
            except Busy:
                if pause_s is None or not run.patience.pauses(pause_s):
                    raise
                asked = self._ask(slab, run)
        places: dict[Ref, memoryview] = {}
        for (ref, memory), value in zip(slab.parts, gathered):
            if isinstance(value, Ref):
                places[value] = memory
            else:
                memory[:] = arrays.flatten(value)
        run.came(sum(ref.nbytes for (ref, _), value in zip(slab.parts, gathered) if not isinstance(value, Ref)))
        is_here = False
        try:
            run.pull([(source, GivenSink({ref: places[ref] for ref in batch})) for source, batch in _by_source(places).items()])
            is_here = True
        finally:
            if not is_here:
                self._let_go(asked)

    def _let_go(self, asked: concurrent.futures.Future[Reply]) -> None:
        """Nobody wants any more what an origin has gathered."""
        if not asked.cancelled() and asked.exception() is None:
            with suppress(Closed):
                self.release(asked.result().body)


class Binding:
    """What a ref is bound to; see `zdl.refs.Holder`. It keeps no cell alive.

    Attributes:
        pull: of the cell's `DownloadBroker`.
        heard: is told of bytes that come.
    """

    __slots__ = ("pull", "_release", "heard")

    def __init__(self, pull: Callable[..., object], release: Callable[[object], None], heard: Progress | None) -> None:
        self.pull = pull
        self._release = release
        self.heard = heard

    def release(self, refs: Sequence[Ref]) -> None:
        """See `DownloadBroker.release`."""
        self._release(list(refs))


@dataclass(frozen=True, slots=True)
class _Slab:
    """Parts that one origin gathers at once, and where they go."""

    origin: str
    parts: list[tuple[Ref, memoryview]]

    def answered(self, asked: concurrent.futures.Future[Reply]) -> list[Any]:
        """What the origin gives: for each part an array, or a ref of what it has gathered.

        Raises:
            Busy: it has no memory for it now.
            DownloadError: what else the origin says, or what became of it.
        """
        label = self.parts[0][0].source.label
        try:
            body = asked.result().body
        except (TimedOut, Cancelled):
            raise
        except (NoRoute, PeerLost) as error:
            raise OriginLost(ref=label, origin=self.origin, bytes_total=self.parts[0][0].nbytes, why=str(error)) from error
        except ZdlError as error:
            raise OriginFailed(ref=label, origin=self.origin, why=str(error)) from error
        if isinstance(body, dict):
            raise _told(body, label, self.origin)
        if not isinstance(body, list) or len(body) != len(self.parts) or not all(
                _is_answer(value, ref) for value, (ref, _) in zip(body, self.parts)):
            raise OriginFailed(ref=label, origin=self.origin, why="it has gathered something else than was asked for")
        return body


class _Run:
    """One fetch on its way: its time, and its progress over all of its pulls.

    Args:
        puller: of the cell.
        refs: all that is fetched.
        limits: as the user gave them.

    Attributes:
        patience: of who waits for it.
        near_bytes: that are here already, as far as nothing was pulled yet.
        spans: bytes that will come of each offer.
        bytes_total: of all of them.
    """

    def __init__(self, puller: Puller, refs: Sequence[Ref], limits: Limits) -> None:
        self.limits = limits
        self.patience = Patience(refs[0].source, limits, lambda done: self._tell(self.near_bytes + done, 0))
        self.near_bytes = 0
        self.spans = {source: _span(batch) for source, batch in _by_source(refs).items()}
        self.bytes_total = sum(self.spans.values())
        self._puller = puller
        self._bytes_done = self._told = 0
        holders = {id(ref.holder): ref.holder for ref in refs if ref.holder is not None}.values()
        heard = dict.fromkeys([limits.progress, *(holder.heard for holder in holders)])
        self._heard = [each for each in heard if each is not None]

    def pull(self, wanted: Sequence[tuple[Source, Sink]], transfers: Mapping[Sink, Transfer] = NO_TRANSFERS) -> None:
        """One batch of pulls; `transfers`: see `Puller.pull`."""
        if not wanted:
            return
        limits = self.limits
        self._puller.pull(wanted, timeout_s=self.patience.left_s(), abort=limits.abort, renew_s=limits.renew_s, pace=limits.pace,
                          progress=self._tell if self._heard else None, transfers=transfers)
        self.near_bytes = 0
        self._came(sum(length for _, sink in wanted for _, length in (*sink.ranges, *sink.have)))

    def came(self, count: int) -> None:
        """Bytes that came without a pull."""
        if count:
            self._tell(count, 0)
            self._came(count)

    def _came(self, count: int) -> None:
        self._bytes_done += count
        self.patience.renew()

    def _tell(self, bytes_done: int, bytes_total: int) -> None:
        """What was on its way over shared memory may have to be sent after all: what is told goes forward only."""
        self._told = max(self._told, self._bytes_done + bytes_done)
        for heard in self._heard:
            heard(self._told, self.bytes_total)


def _span(refs: Iterable[Ref]) -> int:
    """What these bring: bytes that several of them have come once, and parts that are gathered come each by themselves."""
    found = list(refs)
    scattered = sum(ref.nbytes for ref in found if ref.strides)
    return scattered + sum(length for _, length in merge_ranges((ref.offset, ref.length) for ref in found if not ref.strides))


def _told(body: dict[object, object], label: str, origin: str) -> ZdlError:
    """The error that an origin has put into its answer."""
    code, facts = body.get("code"), body.get("facts")
    if isinstance(code, str) and isinstance(facts, dict):
        return from_wire(code, {name: value for name, value in facts.items() if isinstance(name, str)}, at=origin)
    return OriginFailed(ref=label, origin=origin, why="its answer is none")


def _is_answer(value: object, ref: Ref) -> bool:
    """Whether an origin has answered with what was asked for."""
    if isinstance(value, Ref):
        is_whole = value.kind == "array" and not value.strides and value.origin == ref.origin
        return is_whole and (value.dtype, value.shape) == (ref.dtype, ref.shape)
    return isinstance(value, np.ndarray) and arrays.describe(value) == (ref.dtype, ref.shape)


def _by_source(refs: Iterable[Ref]) -> dict[Source, list[Ref]]:
    """The refs by their offers, each of which is pulled once."""
    found: dict[Source, list[Ref]] = {}
    last: Source | None = None
    batch: list[Ref] = []
    for ref in refs:
        if ref.source is not last:  # those of one message have it in common
            last = ref.source
            batch = found.setdefault(last, [])
        batch.append(ref)
    return found


def _batches(places: Mapping[Ref, int]) -> Iterator[list[tuple[Ref, range]]]:
    """Parts of arrays as parts of at most a slab, with their places, so many of them together as are a slab; no part twice."""
    batch: dict[Ref, range] = {}
    for ref, begin in places.items():
        for part, place in parts_of(as_array(ref), range(begin, begin + ref.nbytes)):
            if part in batch or sum(map(len, batch.values())) + len(place) > SLAB_BYTES_MAX or len(batch) >= SLAB_PARTS_MAX:
                yield list(batch.items())
                batch = {}
            batch[part] = place
    yield list(batch.items())


def _slabs(parts: Sequence[tuple[Ref, memoryview]]) -> Iterator[_Slab]:
    """The parts in their order, as many at once as an origin gathers."""
    slab: _Slab | None = None
    count = 0
    for ref, memory in parts:
        count += memory.nbytes
        if slab is None or slab.origin != ref.origin or count > SLAB_BYTES_MAX or len(slab.parts) >= SLAB_PARTS_MAX:
            if slab is not None:
                yield slab
            slab, count = _Slab(ref.origin, []), memory.nbytes
        slab.parts.append((ref, memory))
    if slab is not None:
        yield slab
