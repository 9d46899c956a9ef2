"""One to many: a body for all or one for each, answers as they come, and notices that say where they could not go.

Prints::

    together: site-1 6, site-2 6, site-9 NoRoute
    a body for each: site-1 3, site-2 7
    as they come: site-1 first, then site-2
    a notice reached nobody at: site-2 (Refused), site-9 (NoRoute)
"""

from __future__ import annotations

import queue
import threading

from zdl import Cell, Request, ZdlError

ANY_PORT = "tcp://127.0.0.1:0"


def main() -> None:
    """Every target has an answer, a reply or an error; nobody is left out and nobody ends the others."""
    with (Cell("server", listen=ANY_PORT) as server, Cell("site-1", parent=server.addresses[0]) as one,
          Cell("site-2", parent=server.addresses[0]) as two):
        for site in (one, two):
            site.wait_ready()
            site.handler("math", "sum")(lambda request: sum(request.body))

        answers = server.broadcast(["site-1", "site-2", "site-9"], "math", "sum", [1, 2, 3])
        print("together:", ", ".join(f"{name} {each.body if each.is_ok else type(each.error).__name__}"
                                     for name, each in answers.items()))
        own = server.broadcast({"site-1": [1, 2], "site-2": [3, 4]}, "math", "sum")
        print("a body for each:", ", ".join(f"{name} {each.body}" for name, each in own.items()))

        go_on = threading.Event()
        one.handler("race", "run")(lambda request: "quick")

        @two.handler("race", "run")
        def slow(request: Request) -> object:
            go_on.wait(60)
            return "slow"

        coming = server.broadcast(["site-2", "site-1"], "race", "run").as_completed()
        first = next(coming)  # while the other one still runs
        go_on.set()
        print(f"as they come: {first.target} first, then {next(coming).target}")

        heard: queue.Queue[object] = queue.Queue()
        failed: queue.Queue[tuple[str, ZdlError]] = queue.Queue()
        one.handler("log", "line")(lambda request: heard.put(request.body))
        server.notice(["site-1", "site-2", "site-9"], "log", "line", "round 3 begins", optional=True,
                      undelivered=lambda target, error: failed.put((target, error)))
        heard.get(timeout=10)
        told = sorted((target, type(error).__name__) for target, error in (failed.get(timeout=10) for _ in range(2)))
        print("a notice reached nobody at:", ", ".join(f"{target} ({name})" for target, name in told))


if __name__ == "__main__":
    main()
