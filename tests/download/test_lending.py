"""Lending: what is lent comes back as it was, through whoever passed it on, and is freed when all have it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.download.arrays import Buffers
from zdl.download.lending import audience_of
from zdl.download.outcomes import TransactionOutcome
from zdl.download.transaction import Transaction
from zdl.errors import CannotPack, LeaseEnded, NoRoute, OptionError, UnknownRef
from zdl.objects.dtypes import DTYPES
from zdl.objects.manifest import Manifest
from zdl.objects.pack import pack
from zdl.protocol.effects import Outcome
from zdl.protocol.offers import Audience
from zdl.refs import Ref, Source

from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20


class Held:
    """Arrays that are only held here, so that one can see when nobody else holds them."""

    def __init__(self, *shapes: int) -> None:
        self.arrays = {str(number): np.full(shape, number, np.uint8) for number, shape in enumerate(shapes)}
        self.watched = [weakref.ref(array) for array in self.arrays.values()]

    def are_freed(self) -> bool:
        """Lets go of them, and says whether they are gone."""
        self.arrays = {}
        gc.collect()
        return all(watched() is None for watched in self.watched)


@pytest.fixture
def pair(trees: Trees) -> tuple[Cell, Cell]:
    server, site = trees.grow("server", "site-1")
    return server, site


def back_from(site: Cell, transaction: Transaction) -> Any:
    return site.downloads.resolve(transaction.body, PATIENCE_S)


def assert_own(array: object, like: NDArray[Any]) -> None:
    """It is the same array in memory of its own: writable, in order, aligned."""
    assert isinstance(array, np.ndarray)
    assert (array.dtype, array.shape) == (like.dtype, like.shape)
    assert np.array_equal(array, like)
    assert array.flags.writeable and array.flags.aligned and array.flags.c_contiguous
    assert array.ctypes.data % array.itemsize == 0


# --- arrays and bytes ---------------------------------------------------------------------------

def test_arrays_of_all_types_and_shapes_come_back_the_same(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    arrays: dict[str, NDArray[Any]] = {name: (np.arange(37) % 2).astype(dtype) for name, dtype in DTYPES.items()}
    base = np.arange(4 * 5 * 6, dtype=np.float64).reshape(4, 5, 6)
    arrays |= {"0-d": np.array(3.5), "0-d >": np.array(7, ">i4"), "empty": np.zeros((0, 3), np.float32),
               "every second": base[::2, :, ::-1], "turned": base.T, "fortran": np.asfortranarray(base),
               "broadcast": np.broadcast_to(np.float32(2.0), (3, 4)), "one": np.array([1], np.uint8),
               "large": np.arange(5 * MIB // 8, dtype=np.int64), "larger": np.arange(9 * MIB + 1, dtype=np.uint8)}
    back = back_from(site, server.downloads.lend(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert_own(back[name], array)


def test_an_array_that_came_is_nobody_elses(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    array = np.arange(1000)
    lent = server.downloads.lend({"a": array, "b": array.copy()}, receivers=0)
    first, second = back_from(site, lent), back_from(site, lent)
    first["a"][:] = 0
    assert np.array_equal(second["a"], array) and np.array_equal(first["b"], array) and array[5] == 5
    lent.delete()


def test_lending_leaves_the_lent_object_as_it_was(pair: tuple[Cell, Cell]) -> None:
    array = np.arange(100)
    body = {"a": [array]}
    lent = pair[0].downloads.lend(body)
    assert body["a"][0] is array
    assert isinstance(lent.body, dict) and isinstance(lent.body["a"][0], Ref)
    lent.delete()


def test_several_large_arrays_come_in_one_pull(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    arrays = {str(number): np.arange(number, number + 5 * MIB, dtype=np.uint8) for number in range(6)}
    lent = server.downloads.lend(arrays)
    for name, array in back_from(site, lent).items():
        assert_own(array, arrays[name])
    (transfer,) = site.downloads.transfers
    assert transfer.bytes_done == transfer.bytes_total == 30 * MIB


@pytest.mark.row("B14")
def test_one_ref_in_two_places_is_one_object(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    array = np.arange(10_000)
    lent = server.downloads.lend({"a": array, "b": [array]})
    assert isinstance(lent.body, dict) and lent.body["a"] == lent.body["b"][0]
    back = back_from(site, lent)
    assert back["a"] is back["b"][0] and np.array_equal(back["a"], array)
    assert site.downloads.transfers[-1].bytes_total == array.nbytes


@pytest.mark.row("B5", "B8")
def test_what_cannot_be_packed_names_its_place_and_lends_nothing(pair: tuple[Cell, Cell]) -> None:
    with pytest.raises(CannotPack) as caught:
        pair[0].downloads.lend({"good": np.zeros(1000), "bad": [1, object()]})
    assert caught.value.path == "bad[1]"
    assert pair[0].downloads.transactions == []


def test_a_negative_number_of_receivers_is_refused(pair: tuple[Cell, Cell]) -> None:
    server, _ = pair
    with pytest.raises(OptionError, match="names, or a number from 0 on"):
        server.downloads.lend(np.zeros(10), receivers=-1)
    with pytest.raises(OptionError, match="names, or a number from 0 on"):
        server.request("site-1", "task", "run", np.zeros(MIB), receivers=-1)
    assert server.downloads.transactions == []


# --- through others -----------------------------------------------------------------------------

@pytest.mark.row("B12", "D23")
def test_a_ref_that_is_passed_on_is_the_origins_and_the_relay_moves_none_of_it(trees: Trees) -> None:
    server, relay, leaf = trees.grow("server", "site-1", "site-1.w0", same_host=False)
    array = np.arange(6 * MIB, dtype=np.uint8)
    passed: list[object] = []

    @relay.handler("task", "run", resolve=False)
    def pass_on(request: Request) -> object:
        passed.append(request.body)
        return relay.request("site-1.w0", "task", "sum", request.body, timeout_s=PATIENCE_S).body

    @leaf.handler("task", "sum")
    def add_up(request: Request) -> object:
        assert isinstance(request.body, dict)
        return int(request.body["w"].sum())

    assert server.request("site-1", "task", "run", {"w": array}, timeout_s=PATIENCE_S).body == int(array.sum())
    (body,) = passed
    assert isinstance(body, dict) and isinstance(body["w"], Ref) and body["w"].origin == "server"
    transfer = leaf.downloads.transfers[-1]
    assert (transfer.origin, transfer.way, transfer.why, transfer.bytes_done) == ("server", "direct", "", array.nbytes)
    assert sum(each.bytes_in + each.bytes_out for each in relay.snapshot().traffic if each.lane == "data") == 0
    assert relay.downloads.transfers == [] and relay.downloads.transactions == []
    eventually(lambda: not server.downloads.transactions, what="the end of what was lent")


@pytest.mark.row("B13")
def test_refs_of_several_origins_and_arrays_mix_in_one_message(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    lent = [cell.downloads.lend({"w": np.full(2000, number)}) for number, cell in enumerate((server, one))]
    body = {"a": lent[0].body, "b": [lent[1].body], "c": np.full(2000, 2), "d": np.full(MIB, 3.0)}
    got: list[Any] = []
    two.handler("task", "take")(lambda request: got.append(request.body))
    one.request("site-2", "task", "take", body, timeout_s=PATIENCE_S)
    assert [got[0]["a"]["w"][0], got[0]["b"][0]["w"][0], got[0]["c"][0], got[0]["d"][0]] == [0, 1, 2, 3.0]
    assert {each.origin for each in two.downloads.transfers} == {"server", "site-1"}
    for each in lent:
        assert each.wait(PATIENCE_S).receivers == {"site-2": Outcome.FINISHED}


@pytest.mark.parametrize("forged", ["secret", "offer_id"])
def test_who_does_not_know_the_secret_is_told_that_there_is_nothing(pair: tuple[Cell, Cell], forged: str) -> None:
    server, site = pair
    lent = server.downloads.lend(np.arange(1000))
    assert isinstance(lent.body, Ref)
    source: Source = replace(lent.body.source, **{forged: bytes(16)})  # type: ignore[arg-type]
    with pytest.raises(UnknownRef) as caught:
        site.downloads.pull(replace(lent.body, source=source))
    assert caught.value.origin == "server"
    assert lent.receivers == {} and lent.outcome is None
    lent.delete()


# --- what is freed ------------------------------------------------------------------------------

def test_what_everybody_has_is_freed(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    held = Held(MIB, 100, 5 * MIB)
    lent = server.downloads.lend(held.arrays)
    back_from(site, lent)
    assert lent.wait(PATIENCE_S).is_complete
    eventually(held.are_freed, what="the release of the arrays")
    assert server.downloads.transactions == []


@pytest.mark.parametrize("is_notice", [False, True])
def test_what_cannot_be_delivered_is_lent_no_longer(pair: tuple[Cell, Cell], is_notice: bool) -> None:
    server, site = pair
    held = Held(2 * MIB)
    if is_notice:
        site.notice("site-9", "task", "run", held.arrays)
    else:
        with pytest.raises(NoRoute):
            site.request("site-9", "task", "run", held.arrays, timeout_s=PATIENCE_S)
    eventually(lambda: not site.downloads.transactions, what="the end of what was lent")
    eventually(held.are_freed, what="the release of the arrays")


def test_what_was_lent_for_a_message_ends_as_undeliverable_with_it(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    scope = site.downloads.scope(["server"])
    scope.undeliverable()  # nothing was lent for it yet
    pack({"w": np.zeros(2 * MIB, np.uint8)}, options=site.options.packing, lend=scope.lend)
    (lent,) = site.downloads.transactions
    scope.undeliverable()
    assert lent.wait(PATIENCE_S) == TransactionOutcome(Outcome.UNDELIVERABLE, {"server": Outcome.UNDELIVERABLE})
    assert site.downloads.transactions == []


def test_receivers_are_names_or_a_number_from_0_on() -> None:
    assert audience_of(["site-1", "site-2"]) == Audience(names=frozenset({"site-1", "site-2"}))
    assert audience_of(3) == Audience(count=3)
    with pytest.raises(OptionError, match="a number from 0 on"):
        audience_of(-1)


def test_offers_are_added_to_a_transaction_that_is_open_and_taken_back_from_it(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    lent = server.downloads.lend(np.arange(1000))
    lender = server.downloads.scope(1)._lender
    whole = np.arange(500, dtype=np.uint8)
    manifest = Manifest.of([whole.nbytes])
    slices = [lender.add(lent.id, Buffers(manifest, [whole.data]), manifest.bytes_total, is_counted=False) for _ in range(2)]
    refs = [Ref(source, 0, 0, 500, "bytes") for source in slices]
    assert site.downloads.pull(refs[0]) == whole.tobytes()
    lender.changes.withdraw(slices[1])
    eventually(lambda: lent.facts is not None and lent.facts.offers_count == 2)
    with pytest.raises(LeaseEnded):
        site.downloads.pull(refs[1])
    back_from(site, lent)
    assert lent.wait(PATIENCE_S).is_complete
    with pytest.raises(LeaseEnded):
        lender.add(lent.id, Buffers(manifest, [whole.data]), manifest.bytes_total)
