"""Arrays that are born in shared memory: lent without a copy, read-only while anybody has them, ordinary in everything else."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.born import BORN_BYTES_MIN, Born, Frozen
from zdl.errors import CannotPack, OptionError
from zdl.options import OfferOptions, Options, PackOptions, PullOptions

from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
SHARING = PullOptions(same_host=True, same_host_bytes_min=1)


def grown(trees: Trees, *names: str, guard: str = "check") -> tuple[Cell, ...]:
    return trees.grow("server", *names, options=Options(pulls=SHARING, packing=PackOptions(guard=guard)))


def filled(cell: Cell, size: int = 2 * MIB) -> np.ndarray:  # type: ignore[type-arg]
    array = cell.downloads.empty(size // 4)
    array[:] = np.arange(size // 4)
    return array


@pytest.mark.parametrize("guard", ["check", "freeze"])
def test_it_is_lent_without_a_copy_and_read_only_until_nobody_has_it(trees: Trees, guard: str) -> None:
    server, one, other = grown(trees, "site-1", "site-2", guard=guard)
    array = filled(server)
    taken = server.lane.segments.nbytes
    lent = server.downloads.lend({"w": array, "b": np.ones(9)}, receivers=2)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 7
    mine = one.downloads.pull(lent.body)["w"]  # type: ignore[index]
    into = {"w": np.empty_like(array)}
    other.downloads.pull(lent.body, into | {"b": np.empty(9)})
    assert np.array_equal(mine, array) and np.array_equal(into["w"], array)
    assert [cell.downloads.transfers[-1].way for cell in (one, other)] == ["memory"] * 2
    assert server.lane.segments.nbytes == taken + os.sysconf("SC_PAGE_SIZE"), "only what is small was copied"
    mine[0] = 5
    assert array[0] == 0
    assert lent.wait(PATIENCE_S).is_complete
    assert not array.flags.writeable
    del lent, mine
    gc.collect()
    eventually(lambda: array.flags.writeable)
    array[0] = 7
    again = server.downloads.lend(array)
    assert one.downloads.pull(again.body)[0] == 7  # type: ignore[index]


def test_who_has_it_keeps_its_owner_from_writing_to_it(trees: Trees) -> None:
    server, site = grown(trees, "site-1")
    array = filled(server)
    first, second = (server.downloads.lend([array]) for _ in range(2))
    held = site.downloads.pull(first.body)
    assert first.wait(PATIENCE_S).is_complete
    site.downloads.pull(second.body)
    assert second.wait(PATIENCE_S).is_complete
    del first, second
    looked: list[int] = []
    server.lane.segments.watch(lambda: looked.append(1) or len(looked) == 4)  # type: ignore[func-returns-value]
    eventually(lambda: len(looked) == 4)
    assert not array.flags.writeable
    assert held[0][3] == 3  # type: ignore[index]
    del held
    gc.collect()
    eventually(lambda: array.flags.writeable)


def test_a_copy_may_be_changed_and_what_nobody_guards_is_seen(trees: Trees) -> None:
    for guard, seen in (("copy", 0), ("none", 9)):
        with Trees() as own:
            server, site = grown(own, "site-1", guard=guard)
            array = filled(server)
            lent = server.downloads.lend(array, receivers=0)
            found = site.downloads.pull(lent.body)
            array[:] = 9
            assert found[0] == seen  # type: ignore[index]
            lent.delete()


@pytest.mark.parametrize("part", ["rows", "strided", "reversed", "viewed by its owner, read-only"])
def test_a_part_of_it_is_copied_because_the_rest_is_not_lent(trees: Trees, part: str) -> None:
    server, site = grown(trees, "site-1")
    array = filled(server, 4 * MIB)
    lent_array = {"rows": array[:MIB // 2], "strided": array[::2], "reversed": array[::-1]}.get(part, array[:])
    if part.endswith("only"):
        lent_array.flags.writeable = False
    lent = server.downloads.lend(lent_array, receivers=0)
    before = server.lane.segments.nbytes
    assert np.array_equal(site.downloads.pull(lent.body), lent_array)  # type: ignore[arg-type]
    assert site.downloads.transfers[-1].way == "memory" and server.lane.segments.nbytes >= before + 2 * MIB
    assert array.flags.writeable
    lent.delete()


def test_it_is_of_any_shape_and_type_and_full_of_zeros(trees: Trees) -> None:
    server, site = grown(trees, "site-1")
    for shape, dtype in (((3, 512, 1024), np.int16), (MIB, "bool"), ([MIB // 16, 1], np.complex128)):
        array = server.downloads.empty(shape, dtype)  # type: ignore[arg-type]
        assert (array.shape, array.dtype) == (tuple(np.atleast_1d(shape)), np.dtype(dtype))  # type: ignore[arg-type]
        assert not array.any() and array.flags.c_contiguous and array.flags.writeable
        array.reshape(-1)[-1] = 1
        lent = server.downloads.lend([array, array], receivers=0)
        found = site.downloads.pull(lent.body)
        assert found[0] is found[1] and np.array_equal(found[0], array)  # type: ignore[index]
        lent.delete()
    assert not server.downloads.empty((), "int8").any() and not server.downloads.empty((0, 5)).size


def test_memory_that_was_used_before_is_full_of_zeros_too(trees: Trees) -> None:
    server, site = grown(trees, "site-1")
    lent = server.downloads.lend(np.ones(2 * MIB, np.uint8))
    assert site.downloads.pull(lent.body).all()  # type: ignore[attr-defined]
    assert lent.wait(PATIENCE_S).is_complete
    gc.collect()
    eventually(lambda: [each.segment.is_free() for each in server.lane.segments._idle] == [True])
    assert not server.downloads.empty(2 * MIB - 4096, np.uint8).any()
    assert not server.lane.segments._idle


@pytest.mark.parametrize(("options", "size"), [
    (OfferOptions(same_host=False), 2 * MIB), (OfferOptions(segments_bytes_max=MIB), 2 * MIB),
    (OfferOptions(), BORN_BYTES_MIN - 1)])
def test_where_there_is_no_such_memory_it_is_an_ordinary_array(trees: Trees, options: OfferOptions, size: int) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(offers=options)))
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(pulls=SHARING)))
    array = server.downloads.empty(size, "uint8")
    assert server.lane.segments.nbytes == 0 and not array.any()
    lent = server.downloads.lend(array, receivers=0)
    assert array.flags.writeable
    assert np.array_equal(site.downloads.pull(lent.body), array)  # type: ignore[arg-type]
    lent.delete()


def test_what_cannot_be_an_array_that_travels_is_refused(trees: Trees) -> None:
    server, = grown(trees)
    for shape, dtype, error in (((-1, 5), "f4", OptionError), (5, object, CannotPack)):
        with pytest.raises(error):
            server.downloads.empty(shape, dtype)  # type: ignore[arg-type]


def test_its_memory_goes_with_its_last_view_and_its_numbers_are_used_again(trees: Trees) -> None:
    server, = grown(trees)
    assert isinstance(Born(server).homes([], is_frozen=True), dict) and Frozen()
    for _ in range(20):
        array = filled(server, MIB)
        view = array[5:9]
        del array
        assert view[0] == 5
        del view
    eventually(lambda: server.lane.segments.nbytes == 0)


def test_it_outlives_its_cell() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Trees() as trees:
        server, site = grown(trees, "site-1")
        array, other = filled(server), filled(server)
        lent = server.downloads.lend([array, other], receivers=0)
        found = site.downloads.pull(lent.body)
        assert not array.flags.writeable
        found[1] = None  # type: ignore[index]
    assert np.array_equal(found[0], array)  # type: ignore[index]
    assert not array.flags.writeable, "it is still mapped"
    assert other.flags.writeable
    del array, other, found, lent, server, site, trees
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
