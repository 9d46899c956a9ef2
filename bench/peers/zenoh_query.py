"""zenoh: a queryable answers with one reply for each array, over tcp, or through its shared memory."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np

from zdl_bench import state
from zdl_bench.pulling import Pulling

KEY = "zdl_bench/state"


def config(*, listen: str = "", connect: str = "", is_shared: bool) -> Any:
    """Two peers that find each other by an address alone."""
    import zenoh

    made = zenoh.Config()
    for key, value in (("mode", "peer"), ("scouting/multicast/enabled", False), ("scouting/gossip/enabled", False),
                       ("listen/endpoints", [listen] if listen else []), ("connect/endpoints", [connect] if connect else []),
                       ("transport/shared_memory/enabled", is_shared)):
        made.insert_json5(key, json.dumps(value))
    return made


class Origin:
    """A session with a queryable."""

    def __init__(self) -> None:
        self._session: Any = None
        self._held: list[Any] = []

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, is_shared: bool = False) -> dict[str, Any]:
        """Makes the state, puts it into shared memory if that is to be used, and listens."""
        import zenoh

        arrays = state.make(state.Load(**load))
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            port = chosen.getsockname()[1]
        address = f"tcp/127.0.0.1:{port}"
        self._session = zenoh.open(config(listen=address, is_shared=is_shared))
        payloads: dict[str, Any] = {name: state.bytes_of(array) for name, array in arrays.items()}
        if is_shared:
            size = sum(array.nbytes for array in arrays.values()) + len(arrays) * 4096 + (1 << 20)
            provider = zenoh.shm.ShmProvider.default_backend(size)
            for name, array in arrays.items():
                buffer = provider.alloc(array.nbytes, policy=zenoh.shm.JustAlloc())
                buffer[:] = bytes(state.bytes_of(array))
                payloads[name] = zenoh.ZBytes(buffer)
            self._held.append(provider)

        def answer(query: Any) -> None:
            for name, payload in payloads.items():
                shape = ",".join(map(str, arrays[name].shape))
                query.reply(f"{KEY}/{name.replace('.', '_')}", payload if is_shared else bytes(payload),
                            attachment=f"{name}:{shape}")

        self._held.append(self._session.declare_queryable(f"{KEY}/**", answer))
        return {"address": address, "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Closes the session."""
        if self._session is not None:
            self._session.close()


class Leaf(Pulling):
    """A session that gets all replies."""

    def __init__(self) -> None:
        super().__init__()
        self._session: Any = None

    def start(self, *, address: str, is_shared: bool = False) -> None:
        """Connects."""
        import zenoh

        self._session = zenoh.open(config(connect=address, is_shared=is_shared))

    def arrived(self) -> state.State:
        """One query."""
        import zenoh

        found: state.State = {}
        for reply in self._session.get(f"{KEY}/**", consolidation=zenoh.ConsolidationMode.NONE, timeout=100.0):
            name, _, shape = reply.ok.attachment.to_string().rpartition(":")
            extents = [int(extent) for extent in shape.split(",")]
            found[name] = np.frombuffer(reply.ok.payload.to_bytes(), state.DTYPE).reshape(extents)
        return found

    def stop(self) -> None:
        """Closes the session."""
        if self._session is not None:
            self._session.close()
