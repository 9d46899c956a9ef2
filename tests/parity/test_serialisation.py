"""What may travel in a message, through the public API (rows B1, B3 to B7, O7)."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import threading
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import zdl
from zdl import CannotPack, OptionError, Ref, RemoteError, TooLarge, TypeTable, Unbuilt
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.objects.externalize import find_refs
from zdl.options import Options, PackOptions

from trees import Trees
from waiting import eventually

LARGE = 2 << 20


@dataclass
class Round:
    number: int
    weights: dict[str, NDArray[Any]]


class Phase(enum.Enum):
    TRAIN = 1


class Span(NamedTuple):
    first: int
    last: int


class Tokens:
    """Flat inside, and to be lent even when small."""

    def __init__(self, ids: NDArray[Any]) -> None:
        self.ids = ids


TYPES = TypeTable().with_types(Round, Phase, Span).with_type(
    Tokens, name="tokens", to_plain=lambda tokens: {"ids": tokens.ids}, from_plain=lambda plain: Tokens(plain["ids"]), is_lent=True)


def echo(request: Request) -> object:
    return request.body


def pair(trees: Trees, options: Options | None = None, types: TypeTable = TYPES) -> tuple[Cell, Cell]:
    """A server and a site; both answer task/echo, and task/refs without pulling what is lent."""
    server, site = trees.grow("server", "site-1", options=options, types=types)
    for cell in (server, site):
        cell.handler("task", "echo")(echo)
        cell.handler("task", "refs", resolve=False)(echo)
    return server, site


# --- B1: classes ----------------------------------------------------------------------------------

@pytest.mark.row("B1")
def test_registered_classes_travel_both_ways(trees: Trees) -> None:
    server, _ = pair(trees)
    sent = {"round": Round(3, {"w": np.arange(4.0)}), Span(1, 2): [Phase.TRAIN], "spans": {Span(1, 2)}}
    found: Any = server.request("site-1", "task", "echo", sent).body
    assert found["round"].number == 3 and np.array_equal(found["round"].weights["w"], np.arange(4.0))
    assert found[Span(1, 2)] == [Phase.TRAIN] and found["spans"] == {Span(1, 2)} and type(found["round"]) is Round


@pytest.mark.row("B1")
def test_what_the_standard_library_has_travels_without_being_registered(trees: Trees) -> None:
    server, _ = pair(trees, types=TypeTable())
    noon = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone.utc)
    sent = [{1, "a"}, frozenset((2.5,)), deque([1], 4), 1j, range(2, 9, 3), noon, datetime.date(2026, 3, 1), datetime.time(1, 2),
            datetime.timedelta(days=-1), decimal.Decimal("1.10"),
            uuid.UUID(int=7), pathlib.PurePath("a/b"), np.float32(0.5), np.datetime64("2026-03-01"), np.bool_(True)]
    found: Any = server.request("site-1", "task", "echo", sent).body
    assert found == sent
    assert [type(each) for each in found] == [type(each) for each in sent]


@pytest.mark.row("B1")
def test_a_class_that_one_side_does_not_know_is_named_and_both_cells_live_on(trees: Trees) -> None:
    server, = trees.grow("server", types=TYPES)
    site = trees.add(Cell("site-1", parent=server.addresses[0]))
    site.handler("task", "echo")(echo)
    with pytest.raises(zdl.CannotUnpack, match=r"a value of type 'Span' came, .* types=TypeTable\(\).with_type\(…, name='Span'\)"):
        server.request("site-1", "task", "echo", Span(1, 2))
    site.handler("task", "give")(lambda request: Span(1, 2))
    with pytest.raises(RemoteError, match=r"Span cannot travel; register it: Cell\(…, types=TypeTable\(\).with_type\(Span\)\)"):
        server.request("site-1", "task", "give")
    assert server.request("site-1", "task", "echo", 7).body == 7


@pytest.mark.row("B1")
def test_two_cells_of_one_process_have_tables_of_their_own(trees: Trees) -> None:
    server, = trees.grow("server", types=TypeTable().with_type(Span, name="x"))
    site = trees.add(Cell("site-1", parent=server.addresses[0], types=TypeTable().with_type(Phase, name="x")))
    site.handler("task", "give")(lambda request: Phase.TRAIN)
    with pytest.raises(zdl.CannotUnpack, match="no 'x' can be built of it: TypeError: its fields came as a str"):
        _ = server.request("site-1", "task", "give").body


# --- B3, B4: by reference -------------------------------------------------------------------------

@pytest.mark.row("B3")
def test_large_leaves_go_beside_or_as_refs_and_the_senders_containers_stay_as_they_are(trees: Trees) -> None:
    server, _ = pair(trees)
    small, middle, large = np.zeros(8), np.zeros(10_000), np.zeros(LARGE // 8)
    inner = [small, middle, large, b"x" * LARGE]
    sent = {"a": inner, "round": Round(1, {"w": large})}
    reply = server.request("site-1", "task", "refs", sent, resolve=False)
    found: Any = reply.body
    assert [type(each) for each in found["a"]] == [np.ndarray, np.ndarray, Ref, Ref]
    assert sent["a"] is inner and inner[2] is large and type(sent["round"]) is Round and sent["round"].weights["w"] is large


@pytest.mark.row("B4")
def test_a_value_with_refs_waits_is_forwarded_as_it_is_and_built_where_it_is_resolved(trees: Trees) -> None:
    server, site = pair(trees)
    seen: list[object] = []

    def forward(request: Request) -> object:
        seen.append(request.body)
        return request.body

    site.handler("task", "forward", resolve=False)(forward)
    found: Any = server.request("site-1", "task", "forward", Round(1, {"w": np.arange(LARGE // 8)})).body
    assert isinstance(seen[0], Unbuilt) and seen[0].name == "Round" and [ref.origin for ref in find_refs(seen[0])] == ["server"]
    assert type(found) is Round and np.array_equal(found.weights["w"], np.arange(LARGE // 8))


@pytest.mark.row("B4")
def test_a_type_that_is_lent_goes_by_reference_however_small_and_is_built_by_who_fetches_it(trees: Trees) -> None:
    server, site = pair(trees)
    waiting: Any = server.request("site-1", "task", "refs", [Tokens(np.array([1, 2]))], resolve=False).body
    assert isinstance(waiting[0], Unbuilt) and waiting[0].name == "tokens" and isinstance(waiting[0].plain["ids"], Ref)
    found: Any = server.downloads.resolve(waiting)
    assert isinstance(found[0], Tokens) and found[0].ids.tolist() == [1, 2]
    lent = site.downloads.lend(Tokens(np.array([3])), receivers=["server"])
    one: Any = server.downloads.resolve(lent.body)
    assert isinstance(one, Tokens) and one.ids.tolist() == [3]


# --- B5: failing ----------------------------------------------------------------------------------

@pytest.mark.row("B5")
@pytest.mark.fault("A8")
@pytest.mark.parametrize(("leaf", "reason"), [
    (threading.Lock(), r"a value of type _thread\.\w+ cannot travel; register it with two functions"),
    (np.array([None]), "its dtype is object"),
    (Round(1, {"w": np.array([{}])}), "its dtype is object"), ("\ud800", "lone surrogate"), ({object()}, "the element <object>")])
def test_b5_a8_a_leaf_that_cannot_travel_is_named_with_its_path_and_nothing_is_lent(
        trees: Trees, leaf: object, reason: str) -> None:
    server, _ = pair(trees)
    path = r"batch\[3\]\.weights" + (r"\.weights\.w" if isinstance(leaf, Round) else "")
    with pytest.raises(CannotPack, match=f"cannot pack {path}: .*{reason}"):
        server.request("site-1", "task", "echo", {"large": np.zeros(LARGE), "batch": [0, 1, 2, {"weights": leaf}]})
    assert server.downloads.transactions == []


# --- B6: aliases ----------------------------------------------------------------------------------

@pytest.mark.row("B6")
def test_leaves_of_one_message_share_a_transaction_and_aliases_travel_once(trees: Trees) -> None:
    server, site = pair(trees)
    during: list[int] = []
    site.handler("task", "count", resolve=False)(lambda request: during.append(len(server.downloads.transactions)))
    tiny, middle, large, raw = np.zeros(2), np.zeros(10_000), np.zeros(LARGE // 8), b"x" * LARGE
    leaves = [tiny, middle, large, raw]
    sent = {"a": leaves, "b": (*leaves, Round(1, {"w": large}))}
    found: Any = server.request("site-1", "task", "refs", sent, resolve=False).body
    assert all(found["a"][at] is found["b"][at] for at in range(4))
    assert found["b"][4].plain["weights"]["w"] is found["a"][2]
    assert len({ref.source for ref in find_refs(found)}) == 1 and len(find_refs(found)) == 2
    whole: Any = server.downloads.resolve(found)
    assert all(whole["a"][at] is whole["b"][at] for at in range(4)) and whole["b"][4].weights["w"] is whole["a"][2]
    eventually(lambda: not server.downloads.transactions, what="the end of what was pulled")
    server.request("site-1", "task", "count", {"a": leaves, "b": leaves})
    assert during == [1]


@pytest.mark.row("B6")
def test_a_value_that_stands_in_several_places_is_lent_once_and_is_one_object_wherever_it_is_resolved(trees: Trees) -> None:
    server, site = pair(trees)
    tokens = Tokens(np.arange(5))
    site.handler("task", "same")(lambda request: [request.body["a"] is each for each in request.body["b"]])
    body = {"a": tokens, "b": [tokens, tokens, Tokens(tokens.ids)]}
    reply = server.request("site-1", "task", "same", body)
    assert reply.body == [True, True, False]
    assert [each.bytes_done for each in site.downloads.transfers] == [tokens.ids.nbytes], "its bytes came once"


# --- B7: all of it inside -------------------------------------------------------------------------

@pytest.mark.row("B7")
@pytest.mark.fault("A9")
def test_b7_a9_when_told_so_all_of_a_message_is_packed_into_it_up_to_a_limit_with_a_name(trees: Trees) -> None:
    server, _ = pair(trees, options=Options(packing=PackOptions(lends=False)))
    sent = [np.zeros(LARGE // 8), b"x" * LARGE, Tokens(np.zeros(3))]
    found: Any = server.request("site-1", "task", "refs", sent, resolve=False).body
    assert [type(each) for each in found] == [np.ndarray, bytes, Tokens] and server.downloads.transactions == []
    with pytest.raises(TooLarge, match="an array of the message has 20.0 MiB, frame_bytes_max=16777216 allows 16.0 MiB"):
        server.request("site-1", "task", "echo", np.zeros(20 << 20, np.uint8))
    largest: Any = server.request("site-1", "task", "echo", np.zeros(16 << 20, np.uint8)).body
    assert largest.nbytes == 16 << 20
    with pytest.raises(OptionError, match="frame_bytes_max=16777217 is not allowed: at most 16777216"):
        Options(packing=PackOptions(frame_bytes_max=(16 << 20) + 1))


# --- O7: numpy ------------------------------------------------------------------------------------

STRUCT = np.dtype([("id", "<i8"), ("at", "<M8[us]"), ("box", [("x", ">f4"), ("y", ">f4")]), ("tags", "<U3", (2,))])


def arrays_of_all_kinds(folder: pathlib.Path) -> dict[str, NDArray[Any]]:
    """An array of each dtype, in each layout."""
    mapped = np.memmap(folder / "mapped", "<i4", "w+", shape=(3, 4))
    mapped[:] = np.arange(12).reshape(3, 4)
    records = np.zeros(5, STRUCT)
    records["id"], records["tags"] = range(5), [["a", "bcd"]] * 5
    frozen = np.arange(5)
    frozen.flags.writeable = False
    base = np.arange(24.0).reshape(2, 3, 4)
    return {
        **{kind: np.arange(6).astype(kind).reshape(2, 3) for kind in (
            "?", "i1", "u1", "<i2", ">i2", "<u4", ">u8", "<f2", ">f4", "<f8", "<c8", ">c16", "longdouble", "S2", "<U2", ">U2")},
        "datetime": np.arange(6).astype("M8[25us]"), "timedelta": np.arange(6).astype(">m8[D]"), "void": np.zeros(3, "V5"),
        "records": records, "0-d": np.array(3.5),
        "0-d record": records[3:4].reshape(()), "empty": np.zeros((0, 3)), "fortran": np.asfortranarray(base),
        "backwards": base[::-1, :, ::2], "one column": base[:, 1], "broadcast": np.broadcast_to(np.int16(3), (2, 5)),
        "read-only": frozen, "mapped": mapped, "large": np.arange(LARGE // 4, dtype=">i4"),
        "large records": np.zeros(LARGE // STRUCT.itemsize, STRUCT),
    }


@pytest.mark.row("O7")
def test_arrays_of_every_dtype_and_layout_arrive_equal_and_writable(trees: Trees, tmp_path: pathlib.Path) -> None:
    server, site = pair(trees)
    sent = arrays_of_all_kinds(tmp_path)
    found: Any = server.request("site-1", "task", "echo", sent).body
    lent = server.downloads.lend(sent, receivers=["site-1"])
    for comes in (found, site.downloads.resolve(lent.body)):
        for name, array in sent.items():
            assert (comes[name].dtype, comes[name].shape) == (array.dtype, array.shape), name
            assert comes[name].tobytes() == array.tobytes() and comes[name].flags.writeable, name
            assert comes[name].flags.c_contiguous, name
    eventually(lambda: lent.outcome is not None)


@pytest.mark.row("O7")
def test_arrays_of_ml_dtypes_arrive_equal_inside_and_by_reference(trees: Trees) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    server, _ = pair(trees)
    kinds = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4]
    sent = [np.arange(count).astype(kind) for kind in kinds for count in (6, LARGE)] + [ml_dtypes.bfloat16(1.5)]
    found: Any = server.request("site-1", "task", "echo", sent).body
    for one, other in zip(found, sent, strict=True):
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()


@pytest.mark.row("O7")
def test_an_array_of_objects_is_refused_with_its_path(trees: Trees) -> None:
    server, _ = pair(trees)
    for dtype in ("O", [("a", "O")]):
        with pytest.raises(CannotPack, match=r"cannot pack state\[1\]: its (dtype|field 'a': its dtype) is object"):
            server.request("site-1", "task", "echo", {"state": [1, np.zeros(2, dtype)]})
