"""Filters: code that messages pass on their way; it may change, answer or refuse them, and a relay may look on.

Prints::

    changed on the way out and in: {'x': 1, 'by': 'site-2', 'seen': True}
    answered by a filter, no handler ran: from the cache
    refused by a filter: server refused (quota): too much for today
    an error made good: nothing there
    the server passed on: request site-2 -> site-1 task/echo
"""

from __future__ import annotations

import queue

from zdl import Cell, Refused, Request
from zdl.cell.filters import Passing, Verdict
from zdl.cell.passing_by import Passed


def main() -> None:
    """A filter returns nothing (go on), or a verdict that it makes of the message."""
    with (Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as one,
          Cell("site-2", parent=server.addresses[0]) as two):
        for cell in (server, one):
            cell.handler("task", "echo")(lambda request: request.body)
        one.wait_ready()
        two.wait_ready()

        @two.filters.outgoing_request("task", "echo")
        def sign(message: Passing) -> Verdict:
            assert isinstance(message.body, dict)
            return message.changed(body={**message.body, "by": message.origin})

        @server.filters.incoming_request("task", "*")
        def guard(message: Passing) -> Verdict:
            assert isinstance(message.body, dict)
            if message.body.get("amount", 0) > 100:
                return message.refuse("too much for today", reason="quota")
            if message.body.get("key") == "known":
                return message.answer("from the cache")
            return message.changed(body={**message.body, "seen": True})

        print("changed on the way out and in:", two.request("server", "task", "echo", {"x": 1}).body)
        print("answered by a filter, no handler ran:", two.request("server", "task", "echo", {"key": "known"}).body)
        try:
            two.request("server", "task", "echo", {"amount": 1000})
        except Refused as error:
            print("refused by a filter:", error)

        @server.handler("data", "load")
        def load(request: Request) -> object:
            raise FileNotFoundError(request.body)

        @two.filters.incoming_reply("data", "load")
        def mend(message: Passing) -> Verdict:
            return message.changed(body="nothing there") if message.error else None

        print("an error made good:", two.request("server", "data", "load", "a").body)

        passed: queue.Queue[Passed] = queue.Queue()
        server.filters.observe(passed.put)
        two.request("site-1", "task", "echo", {})
        seen = passed.get(timeout=10)  # its facts; what it passes on, nobody opens
        print(f"the server passed on: {seen.kind} {seen.origin} -> {seen.target} {seen.channel}/{seen.topic}")


if __name__ == "__main__":
    main()
