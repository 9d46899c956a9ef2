"""Gathering: what an origin puts together is what numpy selects, in bounded memory, for who knows the secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from zdl.cell.signal import Signal
from zdl.download import gathering
from zdl.download.gathering import GATHER_TOPIC, SLAB_BYTES_MAX, gather, parts_of
from zdl.download.puller import CHANNEL
from zdl.errors import Busy, Cancelled, LeaseEnded, OriginLost, TooLarge, UnknownRef
from zdl.options import OfferOptions, Options
from zdl.protocol.digests import Readable
from zdl.refs import Ref, Source

from trees import Trees
from waiting import eventually

MIB = 1 << 20


class Stream(Readable):
    """A readable that writes down what it was asked."""

    may_block = False

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> Sequence[bytes]:
        self.asked.append((offset, length))
        whole = self.data[offset:offset + length]
        return [whole[:7], whole[7:]]


def lent(array: NDArray[Any]) -> tuple[Ref, Stream]:
    stream = Stream(bytes(64) + array.tobytes())
    source = Source("site-1", bytes(16), bytes(16), len(stream.data))
    return Ref(source, 0, 64, array.nbytes, "array", array.dtype.str, array.shape), stream


@given(st.data(), hnp.arrays(st.sampled_from(("<f4", ">i2", "<c16")), hnp.array_shapes(min_dims=1, max_dims=4, max_side=7)))
def test_what_is_gathered_block_by_block_is_what_numpy_selects(data: st.DataObject, array: NDArray[Any]) -> None:
    ref, stream = lent(array)
    key = data.draw(hnp.basic_indices(array.shape, allow_newaxis=False))
    part = ref[key]
    block = data.draw(st.sampled_from([16, 40, 100, 1 << 20]))
    found = np.empty(part.shape, part.dtype)
    gather(stream, part, found, block_bytes=block)
    assert found.tobytes() == np.asarray(array[key], array.dtype).tobytes() and found.shape == part.shape
    assert all(length <= block for _, length in stream.asked)


def test_a_part_is_cut_into_slabs_that_lie_in_one_piece_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(4 * 50 * 60, dtype="<i4").reshape(4, 50, 60)
    ref, stream = lent(array)
    for key in ((slice(None), slice(None), 3), np.s_[1, ::-1, ::2], np.s_[1:2, :, 5:50]):
        part, want = ref[key], array[key]
        memory = bytearray(part.nbytes)
        cut = list(parts_of(part, memoryview(memory), slab_bytes=700))
        assert len(cut) == -(-part.nbytes // 700) or len(cut) > 1
        for each, place in cut:
            assert each.nbytes == place.nbytes <= 700
            gather(stream, each, np.frombuffer(place, each.dtype).reshape(each.shape))
        assert bytes(memory) == want.tobytes()


# --- between cells ------------------------------------------------------------------------------

@pytest.mark.row("Z2")
def test_a_slice_pulled_through_relays_is_numpys(trees: Trees) -> None:
    rng = np.random.default_rng(3)
    arrays: dict[str, NDArray[Any]] = {
        "matrix": rng.standard_normal((300, 700)), "big": rng.integers(0, 9, (3, 40, 50, 6)).astype(">i2"),
        "flags": rng.integers(0, 2, (1000, 9)).astype(bool), "row": rng.standard_normal(5000).astype("<c8"), "point": np.array(7.5)}
    server, _, worker, other, leaf = trees.grow("server", "site-1", "site-1.w", "site-2", "site-2.w")
    kept: dict[str, Any] = {}
    leaf.handler("task", "take", resolve=False)(lambda request: kept.update(request.body))
    other.handler("task", "take", resolve=False)(lambda request: request.forward("site-2.w"))
    server.handler("task", "take", resolve=False)(lambda request: request.forward("site-2"))
    transaction = worker.downloads.lend(arrays, receivers=0)
    worker.request("server", "task", "take", transaction.body)

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(arrays)))
        array, ref = arrays[name], kept[name]
        for _ in range(data.draw(st.integers(1, 2))):
            key = data.draw(hnp.basic_indices(array.shape, allow_newaxis=False))
            array, ref = np.asarray(array[key], array.dtype), ref[key]
        into = data.draw(st.sampled_from([None, np.empty(ref.shape, ref.dtype)]))
        found = ref.pull(into)
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert found.flags.writeable and (into is None or found is into)

    compare()
    transaction.delete()


def ask(cell: Any, *refs: Ref) -> Any:
    """What an origin answers."""
    return cell.request(refs[0].origin, CHANNEL, GATHER_TOPIC, list(refs), resolve=False).body


def test_small_parts_come_with_the_answer_and_larger_ones_are_lent_to_the_asker_alone(trees: Trees) -> None:
    server, site, other = trees.grow("server", "site-1", "site-2")
    array = np.arange(3 * MIB, dtype="<f4").reshape(-1, 1024)
    ref: Any = server.downloads.lend(array).body
    small = ask(site, ref[:, 5], ref[::2, 7])
    assert [each.tolist() for each in small] == [array[:, 5].tolist(), array[::2, 7].tolist()]
    large, = ask(site, ref[:, ::2])
    assert isinstance(large, Ref) and large.shape == (3072, 512) and large.source != ref.source
    assert server.downloads.gathered_bytes == large.nbytes
    assert np.array_equal(large.pull(), array[:, ::2])
    eventually(lambda: server.downloads.gathered_bytes == 0, what="its end when its receiver has it")
    with pytest.raises(LeaseEnded, match="finished"):
        other.downloads.pull(large)


def test_what_was_gathered_neither_completes_nor_holds_what_the_array_was_lent_in(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    array = np.arange(MIB, dtype="<f4").reshape(1024, 1024)
    transaction = server.downloads.lend(array)
    ref: Any = transaction.body
    assert np.array_equal(site.downloads.pull(ref[:, ::2]), array[:, ::2])
    assert transaction.outcome is None and transaction.receivers == {}
    assert np.array_equal(site.downloads.pull(ref), array)
    assert transaction.wait(10.0).receivers == {"site-1": transaction.wait().outcome}


def test_a_receiver_that_goes_away_leaves_nothing_gathered(trees: Trees) -> None:
    options = Options(offers=OfferOptions(lease_s=0.2))
    server, site = trees.grow("server", "site-1", options=options)
    ref: Any = server.downloads.lend(np.zeros((1024, 1024))).body
    ask(site, ref[:, ::2])
    assert server.downloads.gathered_bytes == 4 * MIB
    eventually(lambda: server.downloads.gathered_bytes == 0, what="the end of its lease")


def test_the_secret_is_asked_for_and_an_end_is_told(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    transaction = server.downloads.lend(np.zeros((8, 8)))
    ref: Any = transaction.body
    stranger = dataclasses.replace(ref, source=dataclasses.replace(ref.source, secret=bytes(16)))
    with pytest.raises(UnknownRef):
        site.downloads.pull(stranger[:, 1])
    transaction.delete()
    transaction.wait(10.0)
    with pytest.raises(LeaseEnded, match="deleted"):
        site.downloads.pull(ref[:, 1])
    with pytest.raises(UnknownRef):
        site.downloads.pull(dataclasses.replace(ref, source=dataclasses.replace(ref.source, origin="site-1"))[:, 1])
    nowhere = dataclasses.replace(ref, source=dataclasses.replace(ref.source, origin="site-9"))
    with pytest.raises(OriginLost):
        site.downloads.pull(nowhere[:, 1])
    assert server.downloads.gathered_bytes == 0


def test_more_than_the_limit_is_refused_by_its_name(trees: Trees) -> None:
    options = Options(offers=OfferOptions(gathered_bytes_max=5 * MIB))
    server, site = trees.grow("server", "site-1", options=options)
    ref: Any = server.downloads.lend(np.zeros((1024, 1024))).body
    ask(site, ref[:, ::2])  # never fetched
    with pytest.raises(Busy, match="gathered_bytes_max"):
        site.downloads.pull(ref[:, ::2])
    abort = Signal()
    abort.trigger()
    with pytest.raises((Busy, Cancelled)):
        site.downloads.pull(ref[:, 1::2], abort=abort)


def test_a_request_for_what_is_no_part_is_answered_with_an_error(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    ref: Any = server.downloads.lend(np.zeros(SLAB_BYTES_MAX // 4 + 1024, "<f4").reshape(-1, 1024)).body
    for body, code in ((None, "cannot-unpack"), ([], "cannot-unpack"), ([ref, 1], "cannot-unpack"), ([ref], TooLarge.code),
                       ([dataclasses.replace(ref, kind="bytes", dtype="", shape=())], "cannot-unpack"),
                       ([ref[:, 1]] * 2000, "cannot-unpack")):
        answer: Any = site.request("server", CHANNEL, GATHER_TOPIC, body, resolve=False).body
        assert answer["code"] == code
    assert server.downloads.gathered_bytes == 0 and gathering.SLAB_PARTS_MAX < 2000


def test_an_array_larger_than_a_slab_comes_slab_by_slab_within_two_slabs_of_memory(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    array = np.arange(5 * SLAB_BYTES_MAX // 4, dtype="<f4").reshape(-1, 1024)
    ref: Any = server.downloads.lend(array).body
    most, seen = [0], []

    def progress(done: int, total: int) -> None:
        most[0] = max(most[0], server.downloads.gathered_bytes)
        seen.append((done, total))

    found = site.downloads.pull(ref.shard(1, 1, 2), progress=progress)
    assert np.array_equal(found, array[:, 512:])
    assert 0 < most[0] <= 2 * SLAB_BYTES_MAX
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {ref.nbytes // 2} and seen[-1][0] == ref.nbytes // 2
