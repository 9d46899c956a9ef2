"""Dask: one message of its comm layer with all arrays, as its workers send each other what they hold."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from zdl_bench import state
from zdl_bench.pulling import Pulling


class _Looping:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="loop", daemon=True).start()

    def run(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(120)


def configure(settings: dict[str, Any]) -> None:
    """Sets what Dask calls its configuration."""
    import dask

    dask.config.set(settings)


class Origin:
    """A listener that answers each message with the state."""

    def __init__(self) -> None:
        self._looping = _Looping()

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """Makes the state and listens."""
        configure(settings or {})
        from distributed.comm import listen
        from distributed.protocol import to_serialize

        arrays = state.make(state.Load(**load))

        async def answer(comm: Any) -> None:
            while True:
                await comm.read()
                await comm.write({name: to_serialize(array) for name, array in arrays.items()})

        async def bound() -> str:
            listener = await listen("tcp://127.0.0.1:0", answer)
            return str(listener.contact_address)

        return {"address": self._looping.run(bound()), "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Its loop ends with the process."""


class Leaf(Pulling):
    """One comm."""

    def __init__(self) -> None:
        super().__init__()
        self._looping = _Looping()
        self._comm: Any = None

    def start(self, *, address: str, settings: dict[str, Any] | None = None) -> None:
        """Connects."""
        configure(settings or {})
        from distributed.comm import connect

        self._comm = self._looping.run(connect(address))

    def arrived(self) -> state.State:
        """One message each way."""
        async def exchanged() -> Any:
            await self._comm.write("state")
            return await self._comm.read()

        found: state.State = self._looping.run(exchanged())
        return found

    def stop(self) -> None:
        """Closes the comm."""
        if self._comm is not None:
            self._comm.abort()
