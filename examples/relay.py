"""A request through two relays: neither opens it, and the leaf need not know that they are there.

Prints::

    site-1.rack-2.worker-7 answered after 2 hops: ping from server
    the way back took 2 hops
    nobody there: no route to site-1.rack-9: site-1 could not go on
"""

from __future__ import annotations

from zdl import Cell, NoRoute, Request

ANY_PORT = "tcp://127.0.0.1:0"


def main() -> None:
    """A chain: server, site-1, site-1.rack-2, and a worker below."""
    with (Cell("server", listen=ANY_PORT) as server,
          Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as site,
          Cell("site-1.rack-2", parent=site.addresses[0], listen=ANY_PORT) as rack,
          Cell("site-1.rack-2.worker-7", parent=rack.addresses[0]) as worker):
        for cell in (site, rack, worker):
            cell.wait_ready()

        @worker.handler("net", "ping")
        def ping(request: Request) -> object:
            return f"{request.target} answered after {request.hops} hops: ping from {request.origin}"

        reply = server.request("site-1.rack-2.worker-7", "net", "ping")
        print(reply.body)
        print(f"the way back took {reply.hops} hops")
        try:
            server.request("site-1.rack-9", "net", "ping")
        except NoRoute as error:
            print("nobody there:", error)


if __name__ == "__main__":
    main()
