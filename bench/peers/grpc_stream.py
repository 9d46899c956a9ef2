"""gRPC: each array as one message, as its guide shows; or all of them as one stream of pieces, received into place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np

from zdl_bench import state
from zdl_bench.destination import Destination
from zdl_bench.layout import Stream, pieces
from zdl_bench.pulling import Pulling

SERVICE = "zdl_bench.Peer"
# Without these a message has 4 MiB at most.
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Origin:
    """A server with two methods: one array by its name, and the stream."""

    def __init__(self) -> None:
        self._server: Any = None

    def start(self, *, load: dict[str, Any], scheme: str, folder: str) -> dict[str, Any]:
        """Makes the state and listens; returns where, and what will come."""
        import grpc

        arrays = state.make(state.Load(**load))
        stream = Stream(arrays)
        shapes = msgpack.packb(stream.shapes)

        def streamed(request: bytes, context: Any) -> Any:
            for offset, length in pieces(stream.runs, piece_bytes=int(request)):
                yield bytes(stream.read(offset, length))

        methods = {
            "shapes": grpc.unary_unary_rpc_method_handler(lambda request, context: shapes),
            "one": grpc.unary_unary_rpc_method_handler(lambda request, context: arrays[request.decode()].tobytes()),
            "stream": grpc.unary_stream_rpc_method_handler(streamed),
        }
        self._server = grpc.server(ThreadPoolExecutor(4), options=LIMITS)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = self._server.add_insecure_port("127.0.0.1:0" if scheme == "tcp" else f"unix:{folder}/grpc")
        self._server.start()
        return {"address": f"127.0.0.1:{port}" if scheme == "tcp" else f"unix:{folder}/grpc", "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Closes the server."""
        if self._server is not None:
            self._server.stop(None)


class Leaf(Pulling):
    """A client with one channel."""

    def __init__(self) -> None:
        super().__init__()
        self._channel: Any = None
        self._piece_bytes = 0

    def start(self, *, address: str, piece_bytes: int = 0) -> None:
        """Connects; without a length of pieces each array is one message."""
        import grpc

        self._channel = grpc.insecure_channel(address, options=LIMITS)
        self._piece_bytes = piece_bytes
        grpc.channel_ready_future(self._channel).result(30)

    def arrived(self) -> state.State:
        """Array by array, or piece by piece."""
        shapes = msgpack.unpackb(self._channel.unary_unary(f"/{SERVICE}/shapes")(b""), use_list=False)
        if not self._piece_bytes:
            one = self._channel.unary_unary(f"/{SERVICE}/one")
            return {name: np.frombuffer(one(name.encode()), state.DTYPE).reshape(shape) for name, shape in shapes}
        destination = Destination(shapes)
        came = self._channel.unary_stream(f"/{SERVICE}/stream")(str(self._piece_bytes).encode())
        for (offset, view), piece in zip(destination.slices(piece_bytes=self._piece_bytes), came, strict=True):
            view[:] = piece
            self.note(offset + view.nbytes)
        return destination.arrays

    def stop(self) -> None:
        """Closes the channel."""
        if self._channel is not None:
            self._channel.close()
