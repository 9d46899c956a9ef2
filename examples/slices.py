"""A worker takes from a model exactly what it needs: rows, columns, a layer, and its shard, into memory of its own.

Prints::

    the worker got a model of 128.0 MiB, and holds none of it
    rows 1000 to 2023: 4.0 MiB
    every second column of ten rows: 20.0 KiB
    layer 3, into memory that was there: 4.0 MiB
    shard 1 of 4 along the columns: 16.0 MiB
    nothing else has travelled: 24.0 MiB
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zdl import Cell, Request

ANY_PORT = "tcp://127.0.0.1:0"
MIB = 1 << 20


def main() -> None:
    """With ``resolve=False`` a handler gets refs; a part of one is a ref, and pulls its own bytes only."""
    model = {"wte": np.arange(16 * MIB, dtype=np.float32).reshape(-1, 1024)}
    model |= {f"h.{number}.w": np.full((1024, 1024), number, np.float32) for number in range(16)}

    with (Cell("server", listen=ANY_PORT) as server, Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as relay,
          Cell("site-1.w0", parent=relay.addresses[0]) as worker):
        relay.wait_ready()
        worker.wait_ready()
        relay.handler("task", "train", resolve=False)(lambda request: request.forward("site-1.w0"))

        @worker.handler("task", "train", resolve=False)
        def train(request: Request) -> None:
            refs: Any = request.body
            print(f"the worker got a model of {refs.nbytes / MIB:.1f} MiB, and holds none of it")
            rows = refs["wte"][1000:2024].pull()
            assert np.array_equal(rows, model["wte"][1000:2024])
            print(f"rows 1000 to 2023: {rows.nbytes / MIB:.1f} MiB")
            columns = refs["wte"][:10, ::2].pull()
            assert np.array_equal(columns, model["wte"][:10, ::2])
            print(f"every second column of ten rows: {columns.nbytes / 1024:.1f} KiB")
            mine = {"h.3.w": np.zeros((1024, 1024), np.float32)}
            refs.select("h.3.*").pull(into=mine)
            print(f"layer {mine['h.3.w'][0, 0]:.0f}, into memory that was there: {mine['h.3.w'].nbytes / MIB:.1f} MiB")
            shard = refs["wte"].shard(1, 1, 4).pull()
            assert np.array_equal(shard, model["wte"][:, 256:512])
            print(f"shard 1 of 4 along the columns: {shard.nbytes / MIB:.1f} MiB")
            refs.release()

        server.request("site-1", "task", "train", model)
        moved = sum(each.bytes_done for each in worker.downloads.transfers)
        print(f"nothing else has travelled: {moved / MIB:.1f} MiB")


if __name__ == "__main__":
    main()
