"""Who is there: events when cells come and go anywhere below, questions about the tree, and the way a message took.

Prints::

    came: site-1, by site-1
    came: site-1.leaf, by site-1
    below the server: site-1, site-1.leaf
    linked to the server: site-1 True, site-1.leaf False
    the way to the leaf: server > site-1 > site-1.leaf, and back: site-1.leaf > site-1 > server
    site-1.leaf can be reached: True
    site-9 can be reached: False, no route to site-9: server could not go on
    gone: site-1.leaf, it said goodbye: closed
    the link to site-1 ended: it said goodbye: closed
"""

from __future__ import annotations

import queue

from zdl import Cell
from zdl.cell.watching import PeerEvent, SubtreeEvent

ANY_PORT = "tcp://127.0.0.1:0"


def main() -> None:
    """Callbacks that are registered before the cell starts miss nobody; they run on threads of their own."""
    server = Cell("server", listen=ANY_PORT)
    below: queue.Queue[SubtreeEvent] = queue.Queue()
    links: queue.Queue[PeerEvent] = queue.Queue()
    server.tree.on_subtree(below.put)
    take_back = server.tree.on_peer(links.put)
    with server, Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as site:
        came = below.get(timeout=10)
        print(f"came: {came.fqcn}, by {came.by}")
        with Cell("site-1.leaf", parent=site.addresses[0]):
            came = below.get(timeout=10)
            print(f"came: {came.fqcn}, by {came.by}")
            print("below the server:", ", ".join(server.tree.below()))
            print("linked to the server:", ", ".join(f"{name} {server.tree.is_peer(name)}" for name in server.tree.below()))
            route = server.tree.route("site-1.leaf")  # a request with trace=True has it in reply.route
            print(f"the way to the leaf: {' > '.join(route.there)}, and back: {' > '.join(route.back)}")
            print("site-1.leaf can be reached:", bool(server.tree.is_reachable("site-1.leaf")))
            lost = server.tree.is_reachable("site-9")
            print(f"site-9 can be reached: {bool(lost)}, {lost.why}")
        gone = below.get(timeout=10)
        print(f"gone: {gone.fqcn}, {gone.why}")
        site.close()
        ended = links.get(timeout=10)
        while ended.is_up:
            ended = links.get(timeout=10)
        print(f"the link to {ended.fqcn} ended: {ended.why}")
        take_back()


if __name__ == "__main__":
    main()
