"""What a dead peer looks like: a child process is killed while we wait for its answer.

Prints::

    the worker works …
    PeerLost: server.worker is lost, says server: the connection was closed
    known before the timeout: True
    asked again: NoRoute: no route to server.worker: server could not go on
"""

from __future__ import annotations

import multiprocessing
import threading
import time

from zdl import Cell, DeliveryError, Request

TIMEOUT_S = 30.0


def work(address: str) -> None:
    """The child: a worker that never finishes."""
    with Cell("server.worker", parent=address) as worker:

        @worker.handler("task", "think")
        def think(request: Request) -> object:
            worker.notice("server", "task", "begun")
            threading.Event().wait()
            return None

        threading.Event().wait()


def main() -> None:
    """A failure arrives when it happens, with the name of who is gone, not when the timeout ends."""
    with Cell("server", listen="tcp://127.0.0.1:0") as server:
        begun = threading.Event()
        server.handler("task", "begun")(lambda request: begun.set())
        child = multiprocessing.get_context("spawn").Process(target=work, args=(server.addresses[0],), daemon=True)
        child.start()
        while not any(peer.fqcn == "server.worker" for peer in server.peers):
            time.sleep(0.01)
        future = server.request_future("server.worker", "task", "think", timeout_s=TIMEOUT_S)
        begun.wait(TIMEOUT_S)
        print("the worker works …")
        killed_at = time.monotonic()
        child.kill()
        try:
            future.result()
        except DeliveryError as error:
            print(f"{type(error).__name__}: {error}")
        print(f"known before the timeout: {time.monotonic() - killed_at < TIMEOUT_S / 2}")
        try:
            server.request("server.worker", "task", "think", timeout_s=TIMEOUT_S)
        except DeliveryError as error:
            print(f"asked again: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
