"""Fetching: refs inside an object are replaced by what they stand for, each offer fetched once, into memory of the user's."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.download.fetching import Binding, Fetcher, Limits
from zdl.download.puller import Puller, Sink, Transfer
from zdl.errors import Cancelled, LeaseEnded, OptionError, TimedOut
from zdl.objects.batch import Batch
from zdl.options import Options, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from trees import Trees
from waiting import eventually

MIB = 1 << 20
SLOW = PullOptions(chunk_bytes=65536, window_bytes_min=65536, window_bytes_max=65536, same_host=False)


def source(name: str, total: int = 1000) -> Source:
    return Source(name, name.encode().ljust(16), bytes(16), total)


def ref(of: Source, offset: int, length: int, kind: str = "bytes") -> Ref:
    return Ref(of, 0, offset, length, kind)


class Filling(Puller):
    """A puller that fills each sink with the numbers of its offsets, and counts."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def note(self, source: Source, bytes_total: int) -> Transfer:
        return Transfer(source.origin, source.label, bytes_total)

    def pull(self, wanted: list[tuple[Source, Sink]], **how: Any) -> None:  # type: ignore[override]
        self.batches.append([each.origin for each, _ in wanted])
        for _, sink in wanted:
            for offset, length in sink.ranges:
                sink.view(offset, length)[:] = bytes(at % 256 for at in range(offset, offset + length))


@pytest.fixture
def puller() -> Filling:
    return Filling()


@pytest.fixture
def fetcher(puller: Filling) -> Fetcher:
    return Fetcher(Cell("server", listen="tcp://127.0.0.1:0"), puller)


def test_an_object_without_refs_is_itself(fetcher: Fetcher, puller: Filling) -> None:
    body = {"a": [1, (2, b"x")]}
    assert fetcher.resolve(body, Limits()) is body
    assert puller.batches == []


def test_refs_are_replaced_wherever_they_are_and_each_offer_is_fetched_once(fetcher: Fetcher, puller: Filling) -> None:
    one, two = source("site-1"), source("site-2")
    first, second, third = ref(one, 0, 3), ref(one, 64, 2), ref(two, 128, 1)
    body = {"a": [first, {"b": (second, 7)}], "c": third, "d": first}
    assert fetcher.resolve(body, Limits()) == {"a": [b"\0\1\2", {"b": (b"@A", 7)}], "c": b"\x80", "d": b"\0\1\2"}
    assert puller.batches == [["site-1", "site-2"]]


def test_files_stay_refs_in_an_object_and_are_bytes_alone(fetcher: Fetcher) -> None:
    file = ref(source("site-1"), 0, 3, "file")
    body = [file]
    assert fetcher.resolve(body, Limits()) is body
    assert fetcher.pull([file, ref(source("site-1"), 0, 1)]) == [file, b"\0"]
    assert fetcher.pull(file) == b"\0\1\2"


def test_refs_that_are_equal_are_one_object(fetcher: Fetcher) -> None:
    of = source("site-1")
    found: Any = fetcher.resolve([ref(of, 0, 3), ref(of, 0, 3)], Limits())
    assert found[0] is found[1]


def test_parts_that_overlap_do_not_share_memory(fetcher: Fetcher) -> None:
    whole = Ref(source("site-1"), 0, 0, 40, "array", "|u1", (40,))
    found: Any = fetcher.pull([whole, whole[5:20], whole[19:30], whole[32:]])
    assert [each.tolist() for each in found] == [[*range(40)], [*range(5, 20)], [*range(19, 30)], [*range(32, 40)]]
    for each in found:
        each[:] = 99
        assert sum(np.shares_memory(each, other) for other in found) == 1


def test_what_holds_a_ref_keeps_no_cell(fetcher: Fetcher) -> None:
    released: list[object] = []
    binding = Binding(fetcher.pull, released.append, None)
    assert binding.pull(ref(source("site-1"), 1, 2), None) == b"\1\2"
    binding.release([ref(source("site-1"), 1, 2)])
    assert released == [[ref(source("site-1"), 1, 2)]] and binding.heard is None


# --- into memory of the user's ------------------------------------------------------------------

def test_a_large_array_is_received_in_place_without_another_allocation(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", same_host=False)
    array = np.random.default_rng(1).standard_normal((2048, 2048))  # 32 MiB
    lent: Any = server.downloads.lend({"w": array, "small": np.arange(10.0)}, receivers=0).body
    mine = {"w": np.empty_like(array), "small": np.empty(10)}
    for part, into in ((lent["w"], mine["w"]), (lent, mine), (lent["w"][:1000], mine["w"][:1000]),
                       (lent["w"].shard(1, 0, 2), None)):
        into = np.empty((2048, 1024)) if into is None else into
        tracemalloc.start()
        found = site.downloads.pull(part, into=into)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == into if isinstance(into, dict) else found is into
        # Parts that are gathered are copied at the origin, which is in this process too.
        assert peak < (24 * MIB if part.nbytes == array.nbytes // 2 else MIB), f"{peak} bytes were allocated"
    assert np.array_equal(mine["w"], array) and mine["small"].tolist() == [*range(10)]
    assert np.array_equal(into, array[:, :1024])


def test_what_is_selected_is_pulled_into_a_model(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    model = {f"h.{layer}.{name}": np.full((60, 60), layer, "<f4") for layer in range(12) for name in ("w", "b")}
    model["lr"] = np.float32([0.5])  # so small that it comes with the message
    got: dict[str, Any] = {}
    site.handler("task", "train", resolve=False)(lambda request: got.update(request.body) or None)
    server.request("site-1", "task", "train", {"model": {**model, "wte": np.zeros(MIB)}})
    batch = got["model"]
    assert type(batch) is Batch and isinstance(batch["lr"], np.ndarray)
    mine = {name: np.zeros_like(array) for name, array in model.items()}
    found = batch.select("h.3.*", "lr").pull(into=mine)
    assert found.keys() == {"h.3.w", "h.3.b", "lr"} and type(found) is dict
    assert all(found[name] is mine[name] for name in found)
    assert {name for name, array in mine.items() if array.any()} == {"h.3.w", "h.3.b", "lr"}
    with pytest.raises(OptionError, match="into.wte"):
        batch.pull(into=mine)
    moved = sum(each.bytes_done for each in site.downloads.transfers)
    assert moved < 2 * 60 * 60 * 4 + 64


def test_bytes_are_received_into_a_buffer(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    data = np.random.default_rng(2).bytes(3 * MIB)
    blob: Any = server.downloads.lend(data, receivers=0).body
    mine = bytearray(len(data))
    assert site.downloads.pull(blob, into=mine) is mine and mine == data
    part = bytearray(100)
    site.downloads.pull(blob[-100:], into=part)
    assert part == data[-100:] and site.downloads.pull(blob[MIB:MIB + 5]) == data[MIB:MIB + 5]


# --- who has what he wants ----------------------------------------------------------------------

def test_who_wants_only_a_part_says_so_and_the_transaction_ends_as_partial(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    lent = server.downloads.lend({"w": np.zeros((1000, 100)), "b": np.zeros(1000)}, receivers=2)
    body: Any = lent.body
    one.downloads.pull(body["w"][:10])
    one.downloads.release(body)
    eventually(lambda: lent.receivers == {"site-1": Outcome.PARTIAL})
    assert lent.outcome is None
    two.downloads.resolve(body)
    ended = lent.wait(10.0)
    assert (ended.outcome, ended.receivers) == (Outcome.PARTIAL, {"site-1": Outcome.PARTIAL, "site-2": Outcome.FINISHED})
    with pytest.raises(LeaseEnded, match="partial"):
        one.downloads.pull(body["w"][:10])


def test_a_handler_releases_what_came_with_its_request(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    @site.handler("task", "first-rows", resolve=False)
    def first_rows(request: Request) -> Any:
        body: Any = request.body
        rows = body["w"][:2].pull()
        body["w"].release()
        return rows

    found: Any = server.request("site-1", "task", "first-rows", {"w": np.ones((MIB, 2))}).body
    assert found.tolist() == [[1, 1], [1, 1]]
    eventually(lambda: not server.downloads.transactions, what="the end of what the request lent")


# --- refs in handlers and replies ---------------------------------------------------------------

@pytest.mark.parametrize("how", ["ref", "batch", "resolve", "pull"])
@pytest.mark.row("M13")
def test_whoever_pulls_in_a_handler_keeps_its_caller_waiting(trees: Trees, how: str) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=SLOW))
    reports: list[dict[str, object]] = []
    heard = threading.Event()

    @site.handler("task", "train", resolve=False)
    def train(request: Request) -> Any:
        body: Any = request.body
        match how:
            case "ref":
                body["w"].pull()
            case "batch":
                body.pull()
            case "resolve":
                site.downloads.resolve(body)
            case "pull":
                site.downloads.pull(body["w"][:, :3], progress=lambda done, total: None)
        return "trained"

    def tell(facts: Any) -> None:
        reports.append(dict(facts))
        heard.set()

    reply = server.request("site-1", "task", "train", {"w": np.zeros((3 * MIB, 4), "|u1")}, timeout_s=20.0, on_progress=tell)
    assert reply.body == "trained"
    assert heard.wait(10.0) and 0 < int(str(reports[0]["bytes_done"])) <= int(str(reports[0]["bytes_total"]))


@pytest.mark.row("B11")
def test_the_refs_of_a_reply_are_bound_too_and_a_call_chooses(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    array = np.arange(MIB, dtype="<f4").reshape(-1, 64)
    site.handler("task", "model")(lambda request: {"w": array})
    opened: Any = server.request("site-1", "task", "model").body
    assert type(opened) is dict and np.array_equal(opened["w"], array)
    left: Any = server.request("site-1", "task", "model", resolve=False).body
    assert isinstance(left["w"], Ref) and np.array_equal(left["w"][5].pull(), array[5])
    assert np.array_equal(left.pull()["w"], array)


# --- its ends -----------------------------------------------------------------------------------

def test_a_pull_of_columns_ends_by_its_signal_and_its_time(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=SLOW))
    lent: Any = server.downloads.lend(np.zeros((64 * MIB // 64, 64), "|u1"), receivers=0).body
    abort = Signal()
    with pytest.raises(Cancelled):
        site.downloads.pull(lent[:, ::2], abort=abort, progress=lambda done, total: abort.trigger("enough"))
    with pytest.raises(Cancelled):
        site.downloads.pull(lent[:, ::2], abort=abort)
    with pytest.raises(TimedOut):
        site.downloads.pull(lent[:, ::2], timeout_s=0.05)
    eventually(lambda: server.downloads.gathered_bytes == 0, what="the end of what was gathered")
