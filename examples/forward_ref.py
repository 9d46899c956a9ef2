"""A forwarder passes a model on to whom the message names; the leaf gets it straight from its origin, here in shared memory.

Prints::

    site-1 forwards to site-1.leaf
    the leaf pulled 64.0 MiB from server, memory
    the model was a Ref of server, 64.0 MiB
    payload that site-1 has seen: 0 bytes
    the answer came back by reference too: 2.0
"""

from __future__ import annotations

import numpy as np

from zdl import Cell, Request

ANY_PORT = "tcp://127.0.0.1:0"


def main() -> None:
    """``resolve=False`` gives a handler the refs; whatever it sends on packs to the same refs."""
    with (Cell("server", listen=ANY_PORT) as server,
          Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as site,
          Cell("site-1.leaf", parent=site.addresses[0]) as leaf):
        site.wait_ready()
        leaf.wait_ready()

        @site.handler("task", "train", resolve=False)
        def forward(request: Request) -> object:
            assert isinstance(request.body, dict)
            print(f"site-1 forwards to {request.body['to']}")  # unpacks that word, and nothing else
            answer = request.forward(request.body["to"])
            model = request.body["model"]  # now all of it is unpacked: still nothing is fetched
            print(f"the model was a {type(model).__name__} of {model.origin}, {model.nbytes / 2**20:.1f} MiB")
            return answer

        @leaf.handler("task", "train")
        def train(request: Request) -> object:
            assert isinstance(request.body, dict)
            transfer = leaf.downloads.transfers[-1]
            print(f"the leaf pulled {transfer.bytes_done / 2**20:.1f} MiB from {transfer.origin}, {transfer.way}")
            return {"model": request.body["model"] + 1}

        model = np.ones((4, 1024, 4096), np.float32)
        body = {"model": model, "to": "site-1.leaf"}
        reply = server.request("site-1", "task", "train", body, receivers=["site-1.leaf"])
        seen = sum(each.bytes_in + each.bytes_out for each in site.snapshot().traffic if each.lane == "data")
        print(f"payload that site-1 has seen: {seen} bytes")
        assert isinstance(reply.body, dict)
        print(f"the answer came back by reference too: {reply.body['model'].mean()}")


if __name__ == "__main__":
    main()
