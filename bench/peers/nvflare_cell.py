"""NVFlare: a request between two cells, whose reply holds the arrays; its decomposers have the asker download them."""

from __future__ import annotations

import os
import socket
from typing import Any

from zdl_bench import state
from zdl_bench.pulling import Pulling

CHANNEL, TOPIC = "zdl_bench", "state"
ORIGIN, LEAF = "server", "leaf"
TIMEOUT_S = 100.0


def opened(fqcn: str, address: str, environment: dict[str, str]) -> Any:
    """A started cell. What NVFlare lets be set stands in the environment."""
    os.environ.update(environment)
    from nvflare.app_common.decomposers import common_decomposers, numpy_decomposers
    from nvflare.fuel.f3.cellnet.cell import Cell

    common_decomposers.register()
    numpy_decomposers.register()
    cell = Cell(fqcn=fqcn, root_url=f"tcp://{address}", secure=False, credentials={})
    cell.start()
    return cell


class Origin:
    """The root cell."""

    def __init__(self) -> None:
        self._cell: Any = None

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
        """Makes the state and listens."""
        arrays = state.make(state.Load(**load))
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            address = f"127.0.0.1:{chosen.getsockname()[1]}"
        self._cell = opened(ORIGIN, address, environment or {})
        from nvflare.fuel.f3.cellnet.defs import ReturnCode
        from nvflare.fuel.f3.cellnet.utils import make_reply

        self._cell.register_request_cb(channel=CHANNEL, topic=TOPIC,
                                       cb=lambda request: make_reply(ReturnCode.OK, body=dict(arrays)))
        return {"address": address, "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Closes the cell."""
        if self._cell is not None:
            self._cell.stop()


class Leaf(Pulling):
    """A cell below it."""

    def __init__(self) -> None:
        super().__init__()
        self._cell: Any = None

    def start(self, *, address: str, environment: dict[str, str] | None = None) -> None:
        """Connects."""
        self._cell = opened(LEAF, address, environment or {})

    def arrived(self) -> state.State:
        """One request."""
        from nvflare.fuel.f3.cellnet.utils import new_cell_message

        reply = self._cell.send_request(channel=CHANNEL, target=ORIGIN, topic=TOPIC, request=new_cell_message({}, {}),
                                        timeout=TIMEOUT_S)
        found: state.State = reply.payload
        if not isinstance(found, dict):
            raise ValueError(f"NVFlare answered {reply.headers}")
        return found

    def stop(self) -> None:
        """Closes the cell."""
        if self._cell is not None:
            self._cell.stop()
