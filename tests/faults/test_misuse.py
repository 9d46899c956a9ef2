"""What people do wrong with a cell: nothing closed, no deadline, objects that may not travel, waits where one must not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.errors import Busy, CannotPack, LocalProtocolError, OptionError, RemoteError, TimedOut, TooLarge
from zdl.options import CallOptions, Options, PackOptions

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually


def sent_count(cell: Cell) -> int:
    return sum(each.messages_out for each in cell.traffic[0])


@pytest.mark.fault("A1")
def test_a1_eight_threads_on_one_cell_mangle_nothing(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.handler("task", "echo")(lambda request: request.body)
    server.handler("task", "quick", inline=True)(lambda request: request.body)
    noted: list[object] = []
    server.handler("task", "note", inline=True)(lambda request: noted.append(request.body))
    wrong: list[object] = []

    def work(number: int) -> None:
        for step in range(150):
            body = {"who": number, "step": step, "array": np.full(step % 50, number), "data": bytes([number]) * (step * 40)}
            answers = [site.request("server", "task", ("echo", "quick")[step % 2], body).body,
                       site.request_future("server", "task", "quick", body).result(PATIENCE_S).body]
            site.notice("server", "task", "note", (number, step))
            for each in answers:
                if not isinstance(each, dict) or (each["who"], each["step"], each["data"]) != (number, step, body["data"]) \
                        or not np.array_equal(each["array"], np.full(step % 50, number)):
                    wrong.append(each)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE_S)
    assert wrong == []
    eventually(lambda: len(noted) == 8 * 150)
    assert sorted(map(repr, noted)) == sorted(repr((number, step)) for number in range(8) for step in range(150))


@pytest.mark.fault("A5")
def test_a5_a_cell_that_nobody_closed_says_where_it_was_made_and_the_process_exits() -> None:
    program = """
import gc, warnings
def told(message, category, filename, lineno, file=None, line=None): say("told", category.__name__, lineno, message)
warnings.simplefilter("always")
warnings.showwarning = told
def forget():
    cell = Cell("server", listen="tcp://127.0.0.1:0")
    cell.start()
forget()
gc.collect()
kept = Cell("server", listen="tcp://127.0.0.1:0")
kept.handler("task", "mine")(lambda request: kept.fqcn)
kept.start()
"""
    line = program.split("\n").index('    cell = Cell("server", listen="tcp://127.0.0.1:0")')
    with Child(program) as child:
        first, second = child.expect("told").split(" ", 2), child.expect("told").split(" ", 2)
        assert first[0] == second[0] == "ResourceWarning"
        assert "cell server, made at <string>:" in first[2] and "was never closed" in first[2]
        assert int(second[1]) - int(first[1]) == program.split("\n").index(
            'kept = Cell("server", listen="tcp://127.0.0.1:0")') - line
        assert child.ended() == 0


@pytest.mark.fault("A6")
def test_a6_a_request_without_a_deadline_has_one_and_none_must_be_written_out(trees: Trees) -> None:
    assert CallOptions().timeout_s == 30.0
    server, site = trees.grow("server", "site-1", options=Options(calls=CallOptions(timeout_s=0.2)))
    go_on = threading.Event()
    deadlines: list[object] = []

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        deadlines.append(request.deadline is None)
        return go_on.wait(PATIENCE_S)

    for ask in (lambda: site.request("server", "task", "wait"), lambda: site.request_future("server", "task", "wait").result()):
        with pytest.raises(TimedOut) as caught:
            ask()
        assert caught.value.waited_s >= 0.2 and caught.value.address == "server"
    (answer,) = site.broadcast(["server"], "task", "wait").values()
    assert isinstance(answer.error, TimedOut)
    for_ever = site.request_future("server", "task", "wait", timeout_s=None)
    eventually(lambda: len(deadlines) == 4)
    assert deadlines == [False, False, False, True] and not for_ever.done()
    go_on.set()
    assert for_ever.result(PATIENCE_S).body is True
    for wrong in (0.0, -2.0, float("nan"), float("inf")):
        with pytest.raises(OptionError):
            site.request("server", "task", "wait", timeout_s=wrong)


class Mine:
    """A class that nobody at the other end knows."""


@pytest.mark.fault("A8")
@pytest.mark.parametrize(("body", "path", "kind"), [
    ({"a": {"b": [1, 2, 3, Mine()]}}, "a.b[3]", "Mine"), (Mine(), "the object", "Mine"), ([lambda: 1], "[0]", "function"),
    ({"lock": threading.Lock()}, "lock", "lock"), ({"x": iter((1, 2))}, "x", "tuple_iterator"),
    ({"x": np.array([Mine()])}, "x", "object"),
    ({"deep": [{"er": (0, Mine)}]}, "deep[0].er[1]", "type")])
def test_a8_an_object_that_may_not_travel_is_refused_by_path_and_type_before_anything_is_sent(
        trees: Trees, body: object, path: str, kind: str) -> None:
    server, site = trees.grow("server", "site-1")
    site.request("server", "zdl", "ping")
    asks: list[Callable[[], object]] = [
        lambda: site.request("server", "a", "b", body), lambda: site.request_future("server", "a", "b", body),
        lambda: site.notice("server", "a", "b", body), lambda: site.broadcast(["server"], "a", "b", body)]
    before = sent_count(site)
    for ask in asks:
        with pytest.raises(TypeError) as caught:
            ask()
        assert isinstance(caught.value, CannotPack)
        assert path in str(caught.value) and kind in str(caught.value), caught.value
    assert sent_count(site) <= before + 1, "a heartbeat at the most"


@pytest.mark.fault("A8")
def test_a8_an_answer_that_may_not_travel_is_an_error_of_the_handler(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.handler("task", "odd")(lambda request: {"a": [Mine()]})
    with pytest.raises(RemoteError, match=r"a\[0\]") as caught:
        site.request("server", "task", "odd")
    assert caught.value.kind == "CannotPack"


@pytest.mark.fault("A9")
def test_a9_what_is_over_a_limit_is_refused_at_the_sender_by_the_limits_name(trees: Trees) -> None:
    packing = PackOptions(skeleton_bytes_max=10_000, depth_max=5, frames_max=8)
    server, site = trees.grow("server", "site-1", options=Options(packing=packing))
    nested: object = 1
    for _ in range(10):
        nested = [nested]
    site.request("server", "zdl", "ping")
    before = sent_count(site)
    for body, limit in (({"x": ["y" * 100] * 200}, "skeleton_bytes_max"), (nested, "depth_max")):
        with pytest.raises((TooLarge, CannotPack)) as caught:
            site.request("server", "a", "b", body)
        assert limit in str(caught.value), caught.value
    for names in (("c" * 300, "t"), ("c", "t" * 300)):
        with pytest.raises(OptionError):
            site.request("server", *names, 1)
    with pytest.raises(OptionError, match="at most 62"):
        site.request("server", "a", "b", 1, headers={str(number): number for number in range(100)})
    with pytest.raises(TooLarge):
        site.request("server", "a", "b", 1, headers={"big": "x" * 100_000})
    assert sent_count(site) <= before + 1, "a heartbeat at the most"


@pytest.mark.fault("A9")
def test_a9_more_calls_than_may_be_in_flight_are_busy_at_once(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(calls=CallOptions(calls_max=5)))
    go_on = threading.Event()
    server.handler("task", "wait")(lambda request: go_on.wait(PATIENCE_S))
    calls = [site.request_future("server", "task", "wait") for _ in range(5)]
    with pytest.raises(Busy) as caught:
        site.request("server", "task", "wait")
    assert (caught.value.limit, caught.value.value, caught.value.at) == ("calls_max", 5, "site-1")
    go_on.set()
    assert all(call.result(PATIENCE_S).body for call in calls)


@pytest.mark.fault("A10")
def test_a10_waiting_where_only_the_waiter_could_bring_the_answer_is_an_error_with_a_hint(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    seen: list[BaseException] = []

    @server.handler("task", "inline", inline=True)
    def ask_back(request: Request) -> object:
        try:
            return server.request("site-1", "zdl", "ping", timeout_s=None).body
        except LocalProtocolError as error:
            seen.append(error)
            return "refused"

    assert site.request("server", "task", "inline", timeout_s=PATIENCE_S).body in ("refused", None)
    assert all("inline=True" in str(each) and "request_future" in str(each) for each in seen)
    assert server.request("site-1", "zdl", "ping", timeout_s=PATIENCE_S).body is None
