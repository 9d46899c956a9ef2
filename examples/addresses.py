"""Where cells listen: over inproc within one process, and on all interfaces under a name that others know.

Prints::

    three cells in one process, joined by wire: site-2 had 3 from site-1 after 1 hop
    its copy is its own: [1, 2] there, [1, 2, 3] here
    after 8 messages: direct, 0 hops
    bound everywhere, known as: tcp://localhost
    a child that dialled 127.0.0.1 is there: True
    without insecure=True: OptionError
"""

from __future__ import annotations

import time

from zdl import Cell, OptionError, Request

ENOUGH = 8  # ``links.direct_after_count``


def main() -> None:
    """``inproc://NAME`` needs no port; a wildcard needs to know by which name others dial it."""
    with (Cell("server", listen="inproc://example") as server,
          Cell("site-1", parent="inproc://example", listen="inproc://example-1") as one,
          Cell("site-2", parent="inproc://example", listen="inproc://example-2") as two):
        one.wait_ready()
        two.wait_ready()

        @two.handler("list", "grow")
        def grow(request: Request) -> object:
            kept = [*request.body]
            request.body.append(3)
            return {"kept": kept, "sum": len(request.body), "hops": request.hops}

        mine = [1, 2]
        found = one.request("site-2", "list", "grow", mine).body
        print(f"three cells in one process, joined by wire: site-2 had {found['sum']} from site-1 after {found['hops']} hop")
        mine.append(3)
        print(f"its copy is its own: {found['kept']} there, {mine} here")
        for _ in range(ENOUGH):
            one.request("site-2", "list", "grow", [])
        while one.tree.way("site-2").role != "direct":  # they are being introduced, along the tree
            time.sleep(0.01)
        print(f"after {ENOUGH} messages: {one.tree.way('site-2').role}, {one.request('site-2', 'list', 'grow', []).hops} hops")
        assert server.fqcn == "server"

    with Cell("server", listen="tcp://*:0", insecure=True, advertise="localhost") as server:
        host, _, port = server.addresses[0].rpartition(":")
        print("bound everywhere, known as:", host)
        with Cell("site-1", parent=f"tcp://127.0.0.1:{port}") as site:
            site.wait_ready()
            print("a child that dialled 127.0.0.1 is there:", server.tree.is_peer("site-1"))
    try:
        Cell("server", listen="tcp://*:0").start()
    except OptionError as error:
        print(f"without insecure=True: {type(error).__name__}")


if __name__ == "__main__":
    main()
