"""Both ends of one stream between two cells, without users' code."""

from __future__ import annotations

from zdl.assembly import Cell
from zdl.protocol.messages import Body
from zdl.protocol.pushes import Opening
from zdl.protocol.pushing import Open
from zdl.streaming.inflow import Inflow
from zdl.streaming.outbox import Outbox
from zdl.streaming.outflow import Outflow

from waiting import eventually


def joined(server: Cell, site: Cell, *, idle_timeout_s: float | None = None) -> tuple[Outflow, Inflow, list[Body]]:
    """Both ends of one stream."""
    inflows: list[Inflow] = []
    replies: list[Body] = []

    def opened(message: Open) -> Inflow:
        inflows.append(Inflow(server, message, lambda: None, idle_timeout_s))
        return inflows[0]

    server.pushing.listen(opened)
    out = Outflow(site, Opening("server", "a", "b", "objects", body=(b"context",)), Outbox(site),
                  lambda first, some: replies.extend(some))
    return out, eventually(lambda: inflows and inflows[0]), replies
