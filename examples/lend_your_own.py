"""Lend what your own code makes, piece by piece: a Downloadable at the origin, a Consumer at the receiver.

Rows of a table that nobody holds in memory as a whole are read when they are wanted, and summed up as they come.

Prints::

    site-1: success
    the transaction: finished
    the sum of 100000 rows: 4999950000
"""

from __future__ import annotations

import threading
from typing import Any

from zdl import Cell, Consumer, Downloadable, ProduceRC

ROWS = 100_000
ROWS_PER_PIECE = 1000


class Table(Downloadable):
    """A table, a thousand rows at a time."""

    def __init__(self, rows_count: int) -> None:
        super().__init__(range(rows_count))
        self.released = threading.Event()

    def produce(self, state: dict[str, Any], requester: str) -> tuple[str, Any, dict[str, Any]]:
        """The rows from where the state says."""
        start = state.get("row", 0)
        rows = list(self.base_obj[start:start + ROWS_PER_PIECE])
        if not rows:
            return ProduceRC.EOF, None, {}
        return ProduceRC.OK, rows, {"row": start + len(rows)}

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        """One receiver has consumed it all, or failed."""
        print(f"{to_receiver}: {status}")

    def transaction_done(self, transaction_id: str, status: str) -> None:
        """All have come to their end."""
        print(f"the transaction: {status}")

    def release(self) -> None:
        """The last call."""
        super().release()
        self.released.set()


class Sum(Consumer):
    """Adds the rows up, without keeping them."""

    supports_pipelining = True  # `consume` returns the state as it was, so further rows may come meanwhile

    def __init__(self) -> None:
        self.total = 0

    def consume(self, ref_id: str, state: dict[str, Any], data: Any) -> dict[str, Any]:
        """One piece."""
        self.total += sum(data)
        return state

    def download_completed(self, ref_id: str) -> None:
        """The origin hears of it when this has returned."""

    def download_failed(self, ref_id: str, reason: str) -> None:
        """Half a sum is none."""
        self.total = -1


with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
    site.wait_ready()
    table = Table(ROWS)
    lent = server.downloads.lend(table, receivers=["site-1"])
    taken = site.downloads.pull(lent.body, consumer=Sum())
    lent.wait(10)
    table.released.wait(10)
    print(f"the sum of {ROWS} rows: {taken.total}")
