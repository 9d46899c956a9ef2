"""A relay made of libzmq alone: a ROUTER to those below, a DEALER to the one above, and libzmq's own proxy between them."""

from __future__ import annotations

import threading

import zmq

from zdl_bench.bare_zmq import Socket, opened
from zdl_bench.endpoints import listening


class Relay:
    """One proxy.

    Threads: one runs the proxy, which is C code, and closes both sockets.
    """

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()

    def start(self, *, address: str, scheme: str, folder: str, name: str) -> dict[str, str]:
        """Connects to the one above and listens; returns where."""
        above, below = opened(self._context, zmq.DEALER), opened(self._context, zmq.ROUTER)
        above.connect(address)
        below.bind(listening(scheme, folder=folder))
        bound = below.getsockopt_string(zmq.LAST_ENDPOINT)
        threading.Thread(target=_pass_on, args=(below, above), name=name, daemon=True).start()
        return {"address": bound}

    def stop(self) -> None:
        """Ends the proxy by ending its context."""
        self._context.term()


def _pass_on(below: Socket, above: Socket) -> None:
    try:
        zmq.proxy(below, above)
    except zmq.ContextTerminated:
        below.close()
        above.close()
