"""A ROUTER of bare pyzmq that passes on by the first frame: the least that a relay can do."""

from __future__ import annotations

from functools import partial

import zmq

from zdl_bench.bare_router import BareRouter
from zdl_bench.bare_zmq import Socket
from zdl_bench.ends import BareLeaf

__all__ = ["Leaf", "Origin"]
Leaf = BareLeaf


def _forward(router: Socket) -> None:
    while True:
        router.recv()
        target = router.recv()
        payload = router.recv()
        router.send(target, zmq.SNDMORE)
        router.send(payload)


Origin = partial(BareRouter, _forward)
