"""torch RPC: a remote call that returns a dict of tensors; TensorPipe chooses how they move (cross-memory attach on one host)."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from zdl_bench import state
from zdl_bench.pulling import Pulling

ORIGIN, LEAF = "origin", "leaf"
TIMEOUT_S = 100.0
_LENT: dict[str, Any] = {}


def lent() -> dict[str, Any]:
    """What the leaf calls."""
    return _LENT


def _joined(name: str, rank: int, address: str) -> None:
    from torch.distributed import rpc

    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://{address}", num_worker_threads=4, rpc_timeout=TIMEOUT_S)
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


class Origin:
    """The process of rank 0, which waits for the other one on a thread."""

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
        """Makes the state; returns where both meet."""
        os.environ.update(environment or {})
        import torch

        arrays = state.make(state.Load(**load))
        _LENT.update({name: torch.from_numpy(array) for name, array in arrays.items()})
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            address = f"127.0.0.1:{chosen.getsockname()[1]}"
        threading.Thread(target=_joined, args=(ORIGIN, 0, address), name="join", daemon=True).start()
        return {"address": address, "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """It ends with the process: to leave in good order both would have to do it at once."""


class Leaf(Pulling):
    """The process of rank 1."""

    def start(self, *, address: str, environment: dict[str, str] | None = None) -> None:
        """Joins."""
        os.environ.update(environment or {})
        _joined(LEAF, 1, address)

    def arrived(self) -> state.State:
        """One call."""
        from torch.distributed import rpc

        return {name: tensor.numpy() for name, tensor in rpc.rpc_sync(ORIGIN, lent, timeout=TIMEOUT_S).items()}

    def stop(self) -> None:
        """See `Origin.stop`."""
