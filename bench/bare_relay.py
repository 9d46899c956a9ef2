"""A ROUTER of bare pyzmq that passes on by the first frame: the least that a relay can do."""

from __future__ import annotations

import threading

import zmq

from zdl_bench.bare_zmq import Socket, opened
from zdl_bench.endpoints import listening
from zdl_bench.ends import BareLeaf

__all__ = ["Leaf", "Origin"]
Leaf = BareLeaf


class Origin:
    """The relay.

    Threads: one owns the socket as soon as it is bound, and closes it.
    """

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] | None = None

    def start(self, *, scheme: str, folder: str) -> dict[str, str]:
        """Listens; returns where."""
        self._context = zmq.Context()
        router = opened(self._context, zmq.ROUTER)
        router.bind(listening(scheme, folder=folder))
        address = router.getsockopt_string(zmq.LAST_ENDPOINT)
        threading.Thread(target=_forward, args=(router,), name="relay", daemon=True).start()
        return {"address": address}

    def stop(self) -> None:
        """Ends the thread by ending its context."""
        if self._context is not None:
            self._context.term()


def _forward(router: Socket) -> None:
    """Until the context ends."""
    try:
        while True:
            router.recv()
            target = router.recv()
            payload = router.recv()
            router.send(target, zmq.SNDMORE)
            router.send(payload)
    except zmq.ContextTerminated:
        router.close()
