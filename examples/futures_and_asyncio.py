"""Many requests at once: as futures, and as tasks of asyncio.

Prints::

    100 futures: 9900
    a callback had: 84
    100 tasks: 9900
    as they come: site-1 [4, 'ok'], site-9 NoRoute
    cancelled, and the handler was told: the caller waits no more
"""

from __future__ import annotations

import asyncio
import queue
import threading

from zdl import Cell, Request


async def ask(server: Cell, begun: threading.Event) -> None:
    """Cancelling a task, a timeout included, cancels the request; the handler learns of it."""
    replies = await asyncio.gather(*(server.aio.request("site-1", "math", "double", number) for number in range(100)))
    print("100 tasks:", sum(reply.body for reply in replies))

    came = {}
    async for answer in server.aio.as_completed({"site-9": 1, "site-1": 2}, "math", "double"):
        came[answer.target] = [answer.body, "ok"] if answer.is_ok else type(answer.error).__name__
    print("as they come:", ", ".join(f"{target} {came[target]}" for target in sorted(came)))

    task = asyncio.create_task(server.aio.request("site-1", "job", "run", timeout_s=None))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.wait([task])


def main() -> None:
    """The waiting is done by nobody: a future is settled by the cell itself."""
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        site.wait_ready()
        site.handler("math", "double")(lambda request: 2 * request.body)
        begun = threading.Event()
        ended: queue.Queue[object] = queue.Queue()
        promised: list[object] = []

        @site.handler("job", "run")
        def run(request: Request) -> object:
            request.abort.on_trigger(lambda: ended.put(request.abort.value))
            later = request.later()
            promised.append(later)  # nobody will keep this promise
            begun.set()
            return later

        futures = [server.request_future("site-1", "math", "double", number) for number in range(100)]
        print("100 futures:", sum(future.result().body for future in futures))
        called: queue.Queue[object] = queue.Queue()
        futures[42].add_done_callback(lambda done: called.put(done.result().body))
        print("a callback had:", called.get(timeout=10))

        asyncio.run(ask(server, begun))
        print("cancelled, and the handler was told:", ended.get(timeout=10))


if __name__ == "__main__":
    main()
