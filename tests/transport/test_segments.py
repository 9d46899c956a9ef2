"""The segments of a cell: used again when nobody has them, bounded, and gone in the end."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator

import pytest

from zdl.errors import Busy, TooLarge
from zdl.options import OfferOptions
from zdl.transport.segments import Segments
from zdl.transport.shm import Segment

from waiting import PATIENCE_S, eventually

PAGE = mmap.PAGESIZE
MIB = 1 << 20


def made(**options: float) -> Segments:
    return Segments("server", OfferOptions(**options), host="here")  # type: ignore[arg-type]


@pytest.fixture
def segments() -> Iterator[Segments]:
    pool = made(segments_bytes_max=8 * MIB)
    yield pool
    assert pool.close(PATIENCE_S)


def filled(pool: Segments, size: int = MIB, *, asker: str = "", unread: frozenset[bytes] = frozenset()) -> Segment:
    """A segment that may be given away."""
    segment = pool.take(size, asker=asker, unread=unread)
    if not segment.is_sealed:
        segment.write(0, [bytes(segment.size)])
        segment.seal()
    return segment


def descriptors_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_given_back_is_used_again(segments: Segments) -> None:
    first = filled(segments)
    segments.give_back(first)
    assert segments.take(MIB // 2 + 1) is first
    assert segments.nbytes == MIB


def test_a_segment_is_whole_pages(segments: Segments) -> None:
    assert segments.take(1).size == PAGE
    assert segments.take(PAGE + 1).size == 2 * PAGE


def test_what_would_be_far_too_large_is_left_for_others(segments: Segments) -> None:
    first = filled(segments, 4 * MIB)
    segments.give_back(first)
    assert segments.take(MIB) is not first


def test_what_somebody_has_is_not_written_again(segments: Segments) -> None:
    first = filled(segments)
    descriptor, = segments.give([first], "site-1", is_kept=False)
    memory = segments.mapped(descriptor, MIB)
    os.close(descriptor)
    segments.give_back(first)
    second = filled(segments)
    assert second is not first
    segments.give_back(second)
    del memory
    assert segments.take(MIB) is first


def test_who_copies_out_of_it_keeps_it_mapped_and_still_has_it_filled_for_him_again(segments: Segments) -> None:
    first = filled(segments)
    descriptor, = segments.give([first], "site-1", is_kept=True)
    assert segments.is_alone([first], "site-1") and not segments.is_alone([first], "site-2")
    memory = segments.view("server", b"offer", first.id, descriptor, size=MIB, is_alone=True)
    os.close(descriptor)
    segments.give_back(first)
    assert segments.unread("server", b"other") == segments.unread("server", b"offer") == {first.id}
    assert filled(segments, asker="site-2", unread=frozenset({first.id})) is not first
    assert filled(segments, asker="site-1") is not first
    assert filled(segments, asker="site-1", unread=frozenset({first.id})) is first
    first.memory[:3] = b"new"
    descriptor, = segments.give([first], "site-1", is_kept=True)
    assert segments.view("server", b"other", first.id, descriptor, size=MIB, is_alone=True) is memory
    os.close(descriptor)
    assert bytes(memory[:3]) == b"new"


def test_what_others_have_too_is_not_filled_again_whoever_asks(segments: Segments) -> None:
    first = filled(segments)
    for receiver, is_kept in (("site-1", True), ("site-2", True)):
        descriptor, = segments.give([first], receiver, is_kept=is_kept)
        memory = segments.mapped(descriptor, MIB)
        os.close(descriptor)
    segments.give_back(first)
    for asker in ("site-1", "site-2"):
        assert filled(segments, asker=asker, unread=frozenset({first.id})) is not first
    del memory


def test_a_view_that_others_have_too_is_let_go_of_for_the_next_offer(segments: Segments) -> None:
    first = filled(segments)
    descriptor, = segments.give([first], "site-1", is_kept=True)
    segments.view("server", b"offer", first.id, descriptor, size=MIB, is_alone=False)
    os.close(descriptor)
    assert segments.unread("server", b"offer") == {first.id}
    assert not first.is_free()
    assert segments.unread("server", b"other") == frozenset()
    assert first.is_free()


def test_all_of_them_are_bounded_and_idle_ones_give_way(segments: Segments) -> None:
    idle = filled(segments, 4 * MIB)
    segments.give_back(idle)
    busy = filled(segments, 6 * MIB)
    assert segments.nbytes == 6 * MIB
    with pytest.raises(Busy, match="segments_bytes_max"):
        segments.take(3 * MIB)
    segments.drop(busy)
    assert segments.nbytes == 0


def test_a_machine_without_memory_has_none_for_this() -> None:
    pool = Segments("server", OfferOptions(), host="here", room=lambda: MIB)
    with pytest.raises(TooLarge, match="free memory"):
        pool.take(MIB + 1)
    assert pool.nbytes == 0
    assert pool.take(MIB).size == pool.nbytes == MIB
    pool.close(PATIENCE_S)


def test_a_size_that_no_system_has_is_refused() -> None:
    pool = Segments("server", OfferOptions(segments_bytes_max=1 << 62), host="here", room=lambda: 1 << 62)
    with pytest.raises(OSError):
        pool.take(1 << 61)
    assert pool.nbytes == 0
    pool.close(PATIENCE_S)


def test_what_was_never_filled_is_not_kept(segments: Segments) -> None:
    first = segments.take(MIB)
    segments.give_back(first)
    assert segments.nbytes == 0
    assert segments.take(MIB) is not first


def test_what_is_idle_for_too_long_is_given_back_to_the_system() -> None:
    before = descriptors_count()
    pool = made(segments_kept_s=0.05)
    pool.give_back(filled(pool))
    assert pool.nbytes in (0, MIB)
    eventually(lambda: pool.nbytes == 0)
    pool.close(PATIENCE_S)
    assert descriptors_count() == before


def test_a_view_is_kept_for_a_moment_only() -> None:
    segments = Segments("server", OfferOptions(), host="here", view_kept_s=0.05)
    first = filled(segments)
    descriptor, = segments.give([first], "site-1", is_kept=True)
    segments.view("server", b"offer", first.id, descriptor, size=MIB, is_alone=True)
    os.close(descriptor)
    eventually(first.is_free)
    assert segments.unread("server", b"offer") == frozenset()
    segments.close(PATIENCE_S)


def test_things_are_looked_after_until_they_are_done(segments: Segments) -> None:
    looks: list[int] = []

    def look() -> bool:
        """Done at the third time."""
        looks.append(1)
        return len(looks) == 3

    segments.watch(look)
    eventually(lambda: len(looks) == 3)
    done = threading.Event()
    segments.watch(lambda: bool(done.set()) or True)
    assert done.wait(PATIENCE_S)
    assert len(looks) == 3


def test_the_end_leaves_nothing() -> None:
    before = descriptors_count()
    pool = made()
    kept, idle = filled(pool), filled(pool)
    descriptor, = pool.give([kept], "site-1", is_kept=True)
    pool.view("server", b"offer", kept.id, descriptor, size=MIB, is_alone=True)
    os.close(descriptor)
    pool.give_back(idle)
    assert pool.close(PATIENCE_S)
    pool.give_back(kept)
    assert pool.nbytes == 0
    del kept, idle
    assert descriptors_count() == before
