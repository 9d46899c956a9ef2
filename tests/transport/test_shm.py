"""Segments of memory: nobody else can write, nobody can shorten them, and the kernel says when nobody has them any more."""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zdl.transport.shm import ROOM_SHARE, Segment, check_sealed, mapped_private, mapped_shared, room_bytes

PAGE = mmap.PAGESIZE
SIZE = 4 * PAGE


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.made(SIZE)
    made.write(0, [b"one", memoryview(b"two"), b"", bytes(SIZE - 6)])
    made.seal()
    yield made
    made.close()


@contextmanager
def given(segment: Segment) -> Iterator[int]:
    """A descriptor, as somebody else gets it."""
    descriptor = segment.opened()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def descriptors_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_written_is_what_others_map(segment: Segment) -> None:
    with given(segment) as descriptor:
        for mapped in (mapped_private, mapped_shared):
            assert bytes(mapped(descriptor, SIZE)[:7]) == b"onetwo\0"
    segment.memory[:3] = b"ONE"
    with given(segment) as descriptor:
        assert bytes(mapped_shared(descriptor, SIZE)[:6]) == b"ONEtwo"


def test_any_number_of_parts_is_written_in_their_order() -> None:
    segment = Segment.made(SIZE)
    parts = [bytes([number % 251]) for number in range(3000)]
    segment.write(5, parts)
    assert bytes(segment.memory[5:3005]) == b"".join(parts)
    segment.close()


def test_what_a_receiver_writes_is_his_alone(segment: Segment) -> None:
    with given(segment) as descriptor:
        mine, other = mapped_private(descriptor, SIZE), mapped_private(descriptor, SIZE)
    mine[:3] = b"xyz"
    assert bytes(other[:3]) == bytes(segment.memory[:3]) == b"one"


def test_nobody_but_its_maker_can_write(segment: Segment) -> None:
    with given(segment) as descriptor:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, SIZE)
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)  # as root, or as the same user, one may open it again
        for change in (lambda: os.pwrite(again, b"x", 0), lambda: mmap.mmap(again, SIZE), lambda: os.ftruncate(again, 0),
                       lambda: os.ftruncate(again, 2 * SIZE)):
            with pytest.raises(PermissionError):
                change()
        os.close(again)
    assert bytes(segment.memory[:6]) == b"onetwo"


def test_it_is_free_only_when_no_descriptor_and_no_mapping_of_it_is_left(segment: Segment) -> None:
    assert segment.is_free()
    with given(segment) as descriptor:
        assert not segment.is_free()
        mapped = mapped_private(descriptor, SIZE)
        copy = os.dup(descriptor)
    assert not segment.is_free()
    os.close(copy)
    part = mapped[PAGE:2 * PAGE]
    del mapped
    assert not segment.is_free()
    del part
    assert segment.is_free()


def test_what_is_not_sealed_is_not_believed(segment: Segment) -> None:
    loose = Segment.made(SIZE)
    with given(loose) as descriptor, pytest.raises(PermissionError, match="not sealed"):
        check_sealed(descriptor, SIZE)
    loose.close()
    with given(segment) as descriptor:
        check_sealed(descriptor, SIZE)
        with pytest.raises(OSError, match=f"{SIZE} bytes instead of"):
            check_sealed(descriptor, SIZE + 1)
    with open(os.devnull, "rb") as other, pytest.raises(OSError):
        check_sealed(other.fileno(), SIZE)


def test_nothing_is_left_of_it_but_the_views_that_somebody_has() -> None:
    before = descriptors_count()
    segment = Segment.made(SIZE)
    segment.reserve()
    segment.seal()
    view = segment.memory[:3]
    view[:] = b"abc"
    segment.close()
    segment.close()
    assert bytes(view) == b"abc" and descriptors_count() == before + 1
    del view
    assert descriptors_count() == before


def test_a_process_that_may_not_have_so_much_is_told_so() -> None:
    before = descriptors_count()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            Segment.made(SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert descriptors_count() == before


# --- room ---------------------------------------------------------------------------------------

def groups(folder: Path, *, line: str, **files: str) -> dict[str, Path]:
    """A machine with 1,000 KiB left, and these files of its control groups."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\n")
    (folder / "proc/self/cgroup").write_text(line)
    for name, text in files.items():
        path = folder / "groups" / name.replace("__", "/").replace("_in_", ".in.").replace("_", ".").replace(".in.", "_in_")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"cgroups": folder / "groups", "proc": folder / "proc"}


def test_the_room_is_a_share_of_what_the_machine_has_left(tmp_path: Path) -> None:
    assert room_bytes(**groups(tmp_path, line="0::/\n")) == int(1000 * 1024 * ROOM_SHARE)
    assert 0 < room_bytes() < 1 << 50


def test_a_control_group_leaves_less_also_one_further_out(tmp_path: Path) -> None:
    found = groups(tmp_path, line="0::/pod/box\n", pod__box__memory_max="max\n", pod__memory_max="500000\n",
                   pod__memory_current="450000\n", pod__memory_stat="anon 1\ninactive_file 30000\n")
    assert room_bytes(**found) == int(80000 * ROOM_SHARE)


def test_an_older_kind_of_control_group_counts_too(tmp_path: Path) -> None:
    found = groups(tmp_path, line="4:memory,cpu:/box\n3:pids:/box\n", memory__box__memory_limit_in_bytes="1000\n",
                   memory__box__memory_usage_in_bytes="2000\n", memory__box__memory_stat="cache 1\n")
    assert room_bytes(**found) == 0
