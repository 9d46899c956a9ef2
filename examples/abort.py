"""One signal ends all that was begun on its behalf, at every cell that works for it; nested requests keep the deadline.

Prints::

    site-1 asks on with less time than it was given: True
    the leaf works …
    Cancelled: the reply to job/run was cancelled: its signal was triggered with 'the run is over'
    Cancelled: the reply to job/run was cancelled: its signal was triggered with 'the run is over'
    the other run goes on: done
    at the leaf both handlers were told
"""

from __future__ import annotations

import threading

from zdl import Cancelled, Cell, Request, Signal

ANY_PORT = "tcp://127.0.0.1:0"


def main() -> None:
    """server asks site-1, whose handler asks the leaf: by `request.request`, so that it ends with its own caller."""
    with (Cell("server", listen=ANY_PORT) as server,
          Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as site,
          Cell("site-1.leaf", parent=site.addresses[0]) as leaf):
        leaf.wait_ready()
        site.wait_ready()
        begun, told = threading.Semaphore(0), threading.Semaphore(0)

        @site.handler("job", "run")
        def run(request: Request) -> object:
            return request.request("site-1.leaf", "job", "run", request.body).body

        @leaf.handler("job", "run")
        def work(request: Request) -> object:
            if request.body == "quick":
                return "done"
            if request.body == "how long?":
                return request.left_s()
            stopped = threading.Event()
            request.abort.on_trigger(stopped.set)
            begun.release()
            stopped.wait(60)
            told.release()
            return None

        left_s = server.request("site-1", "job", "run", "how long?", timeout_s=20).body
        print("site-1 asks on with less time than it was given:", 0 < left_s < 20)

        program = Signal()
        one_run, other_run = Signal(program), Signal()
        futures = [server.request_future("site-1", "job", "run", abort=Signal(one_run), timeout_s=None) for _ in range(2)]
        for _ in futures:
            begun.acquire(timeout=10)
        print("the leaf works …")
        program.trigger("the run is over")
        for future in futures:
            try:
                future.result(10)
            except Cancelled as error:
                print(f"Cancelled: {error}")
        print("the other run goes on:", server.request("site-1", "job", "run", "quick", abort=other_run).body)
        for _ in futures:
            told.acquire(timeout=10)
        print("at the leaf both handlers were told")


if __name__ == "__main__":
    main()
