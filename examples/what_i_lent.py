"""Who has what I lent: a message with a large array lends it, and its sender knows until when.

Prints::

    the request has lent 1 transaction, still open: 1
    told: server has it (finished)
    before it exits, site-1 waits for 0 transactions
    a message that lends nothing: 0 transactions, 1,048,576 numbers came inside it
    nobody was there: undeliverable, and the array is free: True
"""

from __future__ import annotations

import threading
import weakref

import numpy as np

from zdl import Cell, Lending, NoRoute, PackOptions, Request


def main() -> None:
    """`lent` is in a reply, a future, the answers of a broadcast; ``cell.lent()`` is all of it that is still open."""
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        site.wait_ready()
        kept: list[object] = []
        server.handler("model", "keep", resolve=False)(lambda request: kept.append(request.body))
        server.handler("model", "size")(lambda request: len(_body(request)))
        told = threading.Event()

        def has_it(transaction: object) -> None:
            ended = getattr(transaction, "outcome")
            for name, outcome in ended.receivers.items():
                print(f"told: {name} has it ({outcome.value})")
            told.set()

        array = np.arange(1 << 20)
        reply = site.request("server", "model", "keep", array, lending=Lending(lease_s=60, on_lent=has_it))
        print(f"the request has lent {len(reply.lent)} transaction, still open: {len(reply.lent.open)}")
        server.downloads.resolve(kept.pop())
        told.wait(10)
        site.lent().wait(10)
        print(f"before it exits, site-1 waits for {len(site.lent())} transactions")

        inside = Lending(PackOptions(lends=False))
        count = site.request("server", "model", "size", array, lending=inside)
        print(f"a message that lends nothing: {len(count.lent)} transactions, {count.body:,} numbers came inside it")

        future = site.request_future("site-9", "model", "keep", array)
        free = weakref.ref(array)
        del array
        (ended,) = future.lent.wait(10)
        assert isinstance(future.exception(), NoRoute)
        print(f"nobody was there: {ended.outcome.value}, and the array is free: {free() is None}")


def _body(request: Request) -> np.ndarray:  # type: ignore[type-arg]
    assert isinstance(request.body, np.ndarray)
    return request.body


if __name__ == "__main__":
    main()
