"""A workflow: nested messages share an id and a time, and everybody who is part of it hears of its end.

Prints::

    site-1 is part of it: True, and has less than 60 s
    site-1.w0 is part of it: True, and has less than 60 s
    lent in it: 1 transaction, for 60 s if nobody comes for it
    site-1.w0 cleans up: round 17 is over
    site-1 cleans up: round 17 is over
    afterwards: a message of the workflow was cancelled: round 17 is over
"""

from __future__ import annotations

import threading

import numpy as np

from zdl import Cancelled, Cell, Request

ANY_PORT = "tcp://127.0.0.1:0"


def main() -> None:
    """What a handler asks on by ``request.request`` belongs to the workflow of its request by itself."""
    with (Cell("server", listen=ANY_PORT) as server,
          Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as site,
          Cell("site-1.w0", parent=site.addresses[0]) as worker):
        site.wait_ready()
        worker.wait_ready()
        over: dict[str, object] = {}
        all_know = threading.Event()

        def take_part(request: Request) -> str:
            work = request.workflow
            assert work is not None

            def clean_up() -> None:
                over[request.target] = work.ended.value
                if len(over) == 2:
                    all_know.set()

            work.ended.on_trigger(clean_up)
            print(f"{request.target} is part of it: {work.id == round_17.id}, and has less than 60 s"
                  if work.left_s() < 60 else "too long")
            return work.id

        @site.handler("task", "train", resolve=False)
        def train(request: Request) -> object:
            take_part(request)
            return request.request("site-1.w0", "task", "train", request.body).body

        worker.handler("task", "train", resolve=False)(take_part)

        with server.workflow(ttl_s=60) as round_17:
            server.request("site-1", "task", "train", np.zeros(1 << 20), workflow=round_17)
            print(f"lent in it: {len(round_17.lent)} transaction, for 60 s if nobody comes for it")
            round_17.lent.delete()
            round_17.end("round 17 is over")
        all_know.wait(10)
        for name in sorted(over, reverse=True):
            print(f"{name} cleans up: {over[name]}")
        try:
            server.request("site-1", "task", "train", workflow=round_17)
        except Cancelled as error:
            print(f"afterwards: {error.what.split(' ', 1)[0]} message of the workflow was cancelled: {error.why}")


if __name__ == "__main__":
    main()
