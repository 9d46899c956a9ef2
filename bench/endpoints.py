"""Where origins listen: loopback TCP, or a unix socket in the folder of the run."""

from __future__ import annotations

import socket

SCHEMES = ("tcp", "ipc")


def listening(scheme: str, *, folder: str) -> str:
    """The URL to bind, for zdl and ZeroMQ; the port of a tcp one is chosen when it is bound."""
    return "tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{folder}/origin"


def raw_listener(scheme: str, *, folder: str) -> socket.socket:
    """A listening socket of the same kind without ZeroMQ."""
    if scheme == "tcp":
        return socket.create_server(("127.0.0.1", 0))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{folder}/raw")
    listener.listen()
    return listener


def raw_address(listener: socket.socket) -> str:
    """What `raw_dialled` needs; a unix socket is known by its path."""
    name = listener.getsockname()
    return str(name) if listener.family == socket.AF_UNIX else f"{name[0]}:{name[1]}"


def raw_dialled(address: str) -> socket.socket:
    """A connected socket that sends small messages at once."""
    if address.startswith("/"):
        dialled = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        dialled.connect(address)
        return dialled
    host, _, port = address.removeprefix("tcp://").partition(":")
    dialled = socket.create_connection((host, int(port)))
    dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return dialled
