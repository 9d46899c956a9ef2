"""The last words of a cell: what it says just before it ends is heard by who is connected to it."""

from __future__ import annotations

import threading

from zdl.assembly import Cell
from zdl.cell.messages import Request

from waiting import PATIENCE_S

ROUNDS = 60


def test_the_last_reply_of_a_parent_that_closes_is_heard() -> None:
    for _ in range(ROUNDS):
        asked = threading.Event()
        with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
            site.wait_ready()

            @server.handler("task", "last")
            def last(request: Request) -> object:
                asked.set()
                return "last words"

            waiting = site.request_future("server", "task", "last")
            assert asked.wait(PATIENCE_S)
            server.close(PATIENCE_S)
            assert waiting.result(PATIENCE_S).body == "last words"


def test_the_last_reply_of_a_child_that_closes_is_heard() -> None:
    for _ in range(ROUNDS):
        asked = threading.Event()
        with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
            site.wait_ready()

            @site.handler("task", "last")
            def last(request: Request) -> object:
                asked.set()
                return "last words"

            waiting = server.request_future("site-1", "task", "last")
            assert asked.wait(PATIENCE_S)
            site.close(PATIENCE_S)
            assert waiting.result(PATIENCE_S).body == "last words"
