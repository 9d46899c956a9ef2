"""Limits of bandwidth, and who goes first: a large model comes in the background, and what is urgent overtakes it.

Prints::

    the urgent one came first: True
    the model is whole: True
    it was no faster than it may be: True
"""

from __future__ import annotations

import threading
import time

import numpy as np

from zdl import Cell, OfferOptions, Options, Pace

MIB = 1 << 20


def main() -> None:
    """The server serves no more than 4 MiB in a second, to all together."""
    limited = Options(offers=OfferOptions(bwlimit_bytes_per_s=4 * MIB))
    with Cell("server", listen="tcp://127.0.0.1:0", options=limited) as server, \
            Cell("site-1", parent=server.addresses[0]) as site:
        model = server.downloads.lend(np.ones(6 * MIB, np.uint8)).body
        urgent = server.downloads.lend(np.arange(1000)).body
        order: list[str] = []
        begun = threading.Event()
        began = time.monotonic()

        def fetch_model() -> None:
            lazily = Pace(bwlimit_bytes_per_s=4 * MIB, priority="background")
            fetched = site.downloads.pull(model, pace=lazily, progress=lambda done, total: begun.set())
            order.append("model")
            print(f"the urgent one came first: {order == ['urgent', 'model']}")
            print(f"the model is whole: {bool(np.all(fetched == 1))}")

        background = threading.Thread(target=fetch_model)
        background.start()
        begun.wait()
        site.downloads.pull(urgent, pace=Pace(priority="interactive"))
        order.append("urgent")
        background.join()
        print(f"it was no faster than it may be: {time.monotonic() - began >= 1.2}")


if __name__ == "__main__":
    main()
