"""Life cycle: start and stop, several fabrics in one process, signals with parents."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, Closed, OptionError, PeerLost
from zdl.options import Options

from trees import SCHEMES, Trees
from waiting import PATIENCE_S, eventually


class Order(logging.Handler):
    """Writes down in which order the threads of cells start and stop."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.mark.row("L2")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_l2_start_and_close_may_be_called_as_often_as_one_likes(trees: Trees, scheme: str) -> None:
    cell = Cell("server", listen=trees.address(scheme))
    assert "new" in repr(cell)
    cell.start()
    addresses = cell.addresses
    cell.start()
    with cell:
        assert cell.addresses == addresses and "open" in repr(cell)
    assert "closed" in repr(cell)
    assert cell.close() == [] and cell.close(0.0) == []
    for use in (cell.start, cell.wait_ready, lambda: cell.request("server", "zdl", "ping")):
        with pytest.raises(Closed):
            use()
    again = trees.add(Cell("server", listen=addresses[0]))
    assert again.addresses == addresses, "its address is free again"


@pytest.mark.row("L2")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_l2_an_address_is_free_as_soon_as_its_cell_is_closed(trees: Trees, scheme: str) -> None:
    with Cell("server", listen=trees.address(scheme)) as first:
        address = first.addresses[0]
    for _ in range(20):
        with Cell("server", listen=address) as again:
            assert again.addresses == (address,)


@pytest.mark.row("L2")
def test_l2_a_cell_that_was_never_started_or_could_not_start_closes_too(trees: Trees) -> None:
    assert Cell("server", listen="tcp://127.0.0.1:0").close() == []
    (server,) = trees.grow("server")
    taken = Cell("server", listen=["tcp://127.0.0.1:0", server.addresses[0]])
    with pytest.raises(OptionError):
        taken.start()
    with pytest.raises(OptionError):
        taken.start()
    assert taken.close() == []


@pytest.mark.row("L2")
def test_l2_what_did_not_finish_in_time_is_told_in_words_and_what_did_is_not(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(close_s=0.1))
    entered, go_on = threading.Semaphore(0), threading.Event()

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        entered.release()
        return go_on.wait(PATIENCE_S)

    calls = [site.request_future("server", "task", "wait") for _ in range(2)]
    assert all(entered.acquire(timeout=PATIENCE_S) for _ in calls)
    lent = site.downloads.lend([b"x" * 100_000])
    left = server.close()
    assert left == ["2 handlers are still running"] == server.close(), "it says the same to who asks again"
    assert all(call.exception(PATIENCE_S) is not None for call in calls), "callers are told at once"
    go_on.set()
    assert site.close() == [] and lent.outcome is not None, "what was lent has ended with its cell"


@pytest.mark.row("L2")
def test_l2_handlers_that_finish_in_time_are_waited_for_and_their_answers_arrive(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    entered, closing = threading.Event(), threading.Event()

    @server.handler("task", "slow")
    def slow(request: Request) -> object:
        entered.set()
        eventually(closing.is_set)
        return "done"

    call = site.request_future("server", "task", "slow")
    assert entered.wait(PATIENCE_S)
    closer = threading.Thread(target=lambda: server.close(PATIENCE_S))
    closer.start()
    eventually(lambda: "closed" in repr(server))
    closing.set()
    assert call.result(PATIENCE_S).body == "done"
    closer.join(PATIENCE_S)


@pytest.mark.row("L2")
def test_l2_the_parts_end_in_order_and_nothing_of_them_is_left(trees: Trees) -> None:
    order = Order()
    logger = logging.getLogger("zdl")
    level = logger.level
    logger.addHandler(order)
    logger.setLevel(logging.DEBUG)
    try:
        path = trees.address("ipc")
        with Cell("server", listen=path) as cell:
            cell.request("server", "zdl", "ping")
            assert os.path.exists(path.removeprefix("ipc://"))
    finally:
        logger.removeHandler(order)
        logger.setLevel(level)
    told = [line for line in order.lines if line.startswith("= zdl-")]
    assert told == ["= zdl-data-server started", "= zdl-control-server started",
                    "= zdl-data-server stopped", "= zdl-control-server stopped"]
    assert not os.path.exists(path.removeprefix("ipc://"))
    assert not [each.name for each in threading.enumerate() if each.name.startswith("zdl-")]


@pytest.mark.row("L3")
def test_l3_two_fabrics_with_the_same_names_in_one_process_do_not_meet(trees: Trees) -> None:
    fabrics = [trees.grow("server", "site-1", "site-1.w0", scheme=scheme) for scheme in ("tcp", "tcp", "inproc")]
    for number, cells in enumerate(fabrics):
        for cell in cells:
            cell.handler("task", "which")(lambda request, number=number: number)
    for number, cells in enumerate(fabrics):
        for one in cells:
            assert [one.request(other.fqcn, "task", "which").body for other in cells] == [number] * 3
    assert len({cell.incarnation for cells in fabrics for cell in cells}) == 9
    for cell in reversed(fabrics[0]):
        assert cell.close() == []
    assert [cells[2].request("server", "task", "which").body for cells in fabrics[1:]] == [1, 2]


@pytest.mark.row("L5")
def test_l5_a_signal_is_triggered_by_its_parent_and_not_the_other_way_round() -> None:
    above = Signal()
    below, other = Signal(parent=above), Signal(parent=above)
    leaf = Signal(parent=below)
    heard: list[object] = []
    leaf.on_trigger(lambda: heard.append(leaf.value))
    below.trigger("one branch")
    assert (leaf.is_triggered, leaf.value, heard) == (True, "one branch", ["one branch"])
    assert not above.is_triggered and not other.is_triggered
    above.trigger("all")
    above.trigger("twice")
    assert (other.value, below.value, above.value, heard) == ("all", "one branch", "all", ["one branch"])
    late = Signal(parent=above)
    assert late.is_triggered and late.value == "all", "a child of a signal that was triggered is triggered"


@pytest.mark.row("L5")
def test_l5_a_signal_ends_the_calls_of_its_children_and_reaches_their_handlers(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    aborted, entered = threading.Semaphore(0), threading.Semaphore(0)

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        request.abort.on_trigger(aborted.release)
        entered.release()
        eventually(lambda: request.abort.is_triggered)
        return None

    whole = Signal()
    calls = [site.request_future("server", "task", "wait", abort=Signal(parent=whole), timeout_s=None) for _ in range(3)]
    assert all(entered.acquire(timeout=PATIENCE_S) for _ in calls)
    whole.trigger("the round is over")
    for call in calls:
        error = call.exception(PATIENCE_S)
        assert isinstance(error, Cancelled) and "the round is over" in str(error)
    assert all(aborted.acquire(timeout=PATIENCE_S) for _ in calls)


@pytest.mark.row("F6")
def test_f6_goodbye_is_told_along_the_tree_to_all_who_wait_in_whatever_way(trees: Trees) -> None:
    server, site, _, leaf = trees.grow("server", "site-1", "site-2", "site-2.w0")
    entered, go_on = threading.Semaphore(0), threading.Event()

    @site.handler("task", "wait")
    def wait(request: Request) -> object:
        entered.release()
        return go_on.wait(PATIENCE_S)

    waits = [cell.request_future("site-1", "task", "wait", timeout_s=None) for cell in (server, leaf)]
    answers = leaf.broadcast(["site-1"], "task", "wait", timeout_s=None)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            leaf.request("site-1", "task", "wait", timeout_s=None)
        except PeerLost as error:
            raised.append(error)

    blocked = threading.Thread(target=ask)
    blocked.start()
    for _ in range(4):
        assert entered.acquire(timeout=PATIENCE_S)
    try:
        assert site.close(0.0), "its handlers still run"
        blocked.join(PATIENCE_S)
        found = [*(each.exception(PATIENCE_S) for each in waits), answers["site-1"].error, *raised]
    finally:
        go_on.set()
    assert len(found) == 4, "none of them would have ended by itself"
    for error in found:
        assert isinstance(error, PeerLost) and error.target == "site-1" and "goodbye" in error.why


@pytest.mark.row("F6")
def test_f6_a_closing_cell_says_goodbye_and_what_waits_on_it_fails_at_once() -> None:
    with Trees() as trees:
        server, site = trees.grow("server", "site-1")
        entered, go_on = threading.Event(), threading.Event()

        @site.handler("task", "wait")
        def wait(request: Request) -> object:
            entered.set()
            return go_on.wait(PATIENCE_S)

        future = server.request_future("site-1", "task", "wait", timeout_s=None)
        assert entered.wait(PATIENCE_S)
        try:
            assert site.close(0.0), "the handler still runs"
            error = future.exception(PATIENCE_S)
        finally:
            go_on.set()
        assert isinstance(error, PeerLost) and error.target == "site-1" and "goodbye" in error.why
