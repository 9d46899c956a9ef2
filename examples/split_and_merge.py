"""A forwarder splits a model among workers and merges what they return, without holding a byte of either.

Prints::

    site-1 hands out h.0.* and h.1.*
    site-1.w0 got 8.0 MiB from server
    site-1.w1 got 8.0 MiB from server
    the answer has parts of server, site-1.w0, site-1.w1
    server pulled them: [10.0, 11.0], 7.0
    payload that site-1 has seen: 0 bytes
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zdl import Cell, Request

ANY_PORT = "tcp://127.0.0.1:0"
MIB = 1 << 20


def main() -> None:
    """Refs of several origins, and selections of them, are values: they go into any message."""
    with (Cell("server", listen=ANY_PORT) as server, Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as site,
          Cell("site-1.w0", parent=site.addresses[0]) as first, Cell("site-1.w1", parent=site.addresses[0]) as second):
        for cell in (site, first, second):
            cell.wait_ready()

        @site.handler("task", "train", resolve=False)
        def split(request: Request) -> object:
            model: Any = request.body
            print("site-1 hands out h.0.* and h.1.*")
            parts = {"site-1.w0": model.select("h.0.*"), "site-1.w1": model.select("h.1.*")}
            merged: dict[str, object] = {"wte": model["wte"][:1000]}  # rows of the server's own array go back to it
            for worker, part in parts.items():
                answer: Any = site.request(worker, "task", "train", part, resolve=False).body
                merged.update(answer)
            origins = sorted({value.origin for value in merged.values()})  # type: ignore[attr-defined]
            print(f"the answer has parts of {', '.join(origins)}")
            return merged

        for worker in (first, second):
            @worker.handler("task", "train")
            def train(request: Request) -> object:
                body: Any = request.body
                size = sum(array.nbytes for array in body.values())
                print(f"{request.target} got {size / MIB:.1f} MiB from server")
                return {name: array + 10 for name, array in body.items()}

        model = {f"h.{number}.w": np.full((2, MIB), number, np.float32) for number in range(2)}
        model["wte"] = np.full((2000, 1000), 7, np.float32)
        answer: Any = server.request("site-1", "task", "train", model, receivers=0).body
        layers = [float(answer[f"h.{number}.w"].mean()) for number in range(2)]
        print(f"server pulled them: {layers}, {answer['wte'].mean()}")
        seen = sum(each.bytes_in + each.bytes_out for each in site.snapshot().traffic if each.lane == "data")
        print(f"payload that site-1 has seen: {seen} bytes")


if __name__ == "__main__":
    main()
