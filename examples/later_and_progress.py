"""Long work: a handler that answers after it has returned, from another thread; progress that keeps its caller waiting.

Prints::

    answered by the thread 'trainer'
    failed by it: ValueError in site-1, handler train/later: no data
    nobody waits any more: reply() says False
    it took longer than its timeout: True
    reported: 1 of 4, 2 of 4, 3 of 4, 4 of 4
"""

from __future__ import annotations

import queue
import threading
import time

from zdl import Cell, RemoteError, Request, TimedOut
from zdl.cell.later import Later

TIMEOUT_S = 2.0


def trainer(promises: queue.Queue[Later | None]) -> None:
    """Keeps the promises that the handler makes: no thread of the cell's is held meanwhile."""
    while (later := promises.get()) is not None:
        later.reply(threading.current_thread().name)
        if (later := promises.get()) is not None:
            later.fail(ValueError("no data"))


def main() -> None:
    """A promise ends by itself when its caller waits no more, or the cell closes."""
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        site.wait_ready()
        promises: queue.Queue[Later | None] = queue.Queue()

        @site.handler("train", "later")
        def train_later(request: Request) -> object:
            later = request.later()
            promises.put(later)
            return later

        @site.handler("train", "steps")
        def train_steps(request: Request) -> object:
            for step in range(1, 5):
                time.sleep(TIMEOUT_S / 3)  # the work
                request.progress({"step": step})
            return "done"

        threading.Thread(target=trainer, args=(promises,), name="trainer", daemon=True).start()
        print(f"answered by the thread {server.request('site-1', 'train', 'later').body!r}")
        try:
            server.request("site-1", "train", "later")
        except RemoteError as error:
            print("failed by it:", error)
        promises.put(None)  # the trainer ends

        try:
            server.request("site-1", "train", "later", timeout_s=0.1)
        except TimedOut:
            forgotten = promises.get(timeout=10)
            assert forgotten is not None
            while forgotten.is_wanted:  # word of it is on its way
                time.sleep(0.01)
            print("nobody waits any more: reply() says", forgotten.reply("too late"))

        told: queue.Queue[int] = queue.Queue()
        began = time.monotonic()
        server.request("site-1", "train", "steps", timeout_s=TIMEOUT_S, on_progress=lambda facts: told.put(facts["step"]))
        print("it took longer than its timeout:", time.monotonic() - began > TIMEOUT_S)
        print("reported:", ", ".join(f"{told.get(timeout=10)} of 4" for _ in range(4)))


if __name__ == "__main__":
    main()
