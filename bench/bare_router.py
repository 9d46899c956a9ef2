"""A ROUTER of bare pyzmq with one thread that serves it: what the baselines of small messages have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable

import zmq

from zdl_bench.bare_zmq import Socket, opened
from zdl_bench.endpoints import listening


class BareRouter:
    """One bound ROUTER.

    Threads: one owns the socket as soon as it is bound, and closes it.

    Args:
        serve: takes messages from the socket and does with them what is measured, for ever.
    """

    def __init__(self, serve: Callable[[Socket], None]) -> None:
        self._serve = serve
        self._context: zmq.Context[Socket] | None = None

    def start(self, *, scheme: str, folder: str) -> dict[str, str]:
        """Listens; returns where."""
        self._context = zmq.Context()
        router = opened(self._context, zmq.ROUTER)
        router.bind(listening(scheme, folder=folder))
        address = router.getsockopt_string(zmq.LAST_ENDPOINT)
        threading.Thread(target=self._run, args=(router,), name="router", daemon=True).start()
        return {"address": address}

    def stop(self) -> None:
        """Ends the thread by ending its context."""
        if self._context is not None:
            self._context.term()

    def _run(self, router: Socket) -> None:
        """Until the context ends."""
        try:
            self._serve(router)
        except zmq.ContextTerminated:
            router.close()
