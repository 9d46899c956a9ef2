"""Life: who ends the parts of a cell when, and what those are told who come too early or too late."""

from __future__ import annotations

import gc
import inspect
import threading
import warnings
import weakref

import pytest

from zdl.assembly import Cell
from zdl.cell.life import Life, place_outside
from zdl.errors import Closed, ForkedCell, LocalProtocolError
from zdl.options import CallOptions, Options

from trees import Trees
from waiting import PATIENCE_S, eventually


def line_here() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def test_the_place_is_that_of_the_nearest_caller_outside_the_package() -> None:
    assert place_outside() == f"{__file__}:{line_here()}"


def test_a_new_life_is_neither_open_nor_forked() -> None:
    life = Life("server")
    assert repr(life) == "<Life of server: new>"
    assert type(life.error()) is Closed and not life.is_alive()
    assert life.close(0.0) == [] and life.close(0.0) == []
    assert life.state == "closed"


def test_the_copy_in_a_forked_child_is_marked_if_the_cell_was_open(trees: Trees) -> None:
    (cell,) = trees.grow("server")
    copied = Life("server")
    copied._forked()
    assert copied.state == "new", "what was not started may be started in the child"
    copied.caller, copied._pid = cell._calling(), 7
    copied._forked()
    assert copied.state == "forked"
    error = copied.error()
    assert isinstance(error, ForkedCell) and isinstance(error, Closed) and error.pid == 7
    assert copied.close(0.0) == []
    with pytest.raises(ForkedCell):
        copied.begin(lambda: None)


def test_what_runs_for_a_cell_does_not_keep_it_alive(trees: Trees) -> None:
    (server,) = trees.grow("server")
    cell = Cell("site-1", parent=server.addresses[0])
    made_at = f"{__file__}:{line_here() - 1}"
    cell.start()
    cell.wait_ready(PATIENCE_S)
    cell.handler("task", "echo")(lambda request: request.body)
    assert server.request("site-1", "task", "echo", 1).body == 1
    collected = weakref.ref(cell)
    with pytest.warns(ResourceWarning) as caught:
        del cell
        gc.collect()
    assert collected() is None
    text = f"cell site-1, made at {made_at}, was never closed: use it in a with statement, or call close()"
    assert [str(each.message) for each in caught] == [text]
    assert (caught[0].filename, f"{caught[0].filename}:{caught[0].lineno}") == (__file__, made_at)
    eventually(lambda: not server.peers, what="its goodbye")
    eventually(lambda: not [each for each in threading.enumerate() if "site-1" in each.name], what="the end of its threads")


def test_a_cell_that_was_closed_or_never_started_is_collected_in_silence() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Cell("server", listen="tcp://127.0.0.1:0") as cell:
            cell.request("server", "zdl", "ping")
        never = Cell("server", listen="tcp://127.0.0.1:0")
        collected = [weakref.ref(cell), weakref.ref(never)]
        del cell, never
        gc.collect()
    assert [each() for each in collected] == [None, None]
    assert [str(each.message) for each in caught] == []


def test_who_closes_second_waits_for_the_first_and_hears_the_same(trees: Trees) -> None:
    (cell,) = trees.grow("server")
    entered, go_on = threading.Event(), threading.Event()

    @cell.handler("task", "wait")
    def wait(request: object) -> object:
        entered.set()
        go_on.wait(PATIENCE_S)
        return None

    cell.notice("server", "task", "wait")
    assert entered.wait(PATIENCE_S)
    told: list[list[str]] = []
    threads = [threading.Thread(target=lambda: told.append(cell.close(PATIENCE_S))) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: "closed" in repr(cell))
    assert told == []
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert told == [[], [], []]
    assert not [each.name for each in threading.enumerate() if each.name.startswith("zdl-")]


def test_a_handler_that_closes_a_cell_that_is_being_closed_is_not_waited_for(trees: Trees) -> None:
    (cell,) = trees.grow("server", options=Options(close_s=PATIENCE_S))
    entered, go_on = threading.Event(), threading.Event()
    told: list[list[str]] = []

    @cell.handler("task", "stop")
    def stop(request: object) -> None:
        entered.set()
        go_on.wait(PATIENCE_S)
        told.append(cell.close())

    cell.notice("server", "task", "stop")
    assert entered.wait(PATIENCE_S)
    closer = threading.Thread(target=cell.close)
    closer.start()
    eventually(lambda: "closed" in repr(cell))
    go_on.set()
    closer.join(PATIENCE_S / 2)
    assert told == [[]] and not closer.is_alive()


def test_starting_and_closing_at_once_leaves_it_closed() -> None:
    for _ in range(20):
        cell = Cell("server", listen="tcp://127.0.0.1:0")
        gate = threading.Barrier(3)
        wrong: list[BaseException] = []

        def start(cell: Cell = cell, gate: threading.Barrier = gate, wrong: list[BaseException] = wrong) -> None:
            gate.wait()
            try:
                cell.start()
            except Closed:
                return
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        gate.wait()
        cell.close()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert cell.close() == [] and wrong == []
        assert not [each.name for each in threading.enumerate() if each.name.startswith("zdl-")]


def test_a_request_that_only_its_own_thread_could_answer_is_an_error_and_no_hang(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(calls=CallOptions(timeout_s=PATIENCE_S)))
    caught: list[BaseException] = []

    @server.handler("task", "ask-back", inline=True)
    def ask_back(request: object) -> object:
        try:
            return server.request("site-1", "zdl", "ping").body
        except LocalProtocolError as error:
            caught.append(error)
            raise

    with pytest.raises(Exception, match="register the handler without inline=True"):
        site.request("server", "task", "ask-back")
    assert len(caught) == 1
    assert server.request("site-1", "zdl", "ping").body is None
