"""Holder: which process listens at an address that is taken; so that whoever wants it knows whom to end or to ask."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import psutil

# What Linux tells of who listens at a local socket: process, user, group.
_CREDENTIALS = struct.Struct("3i")
LOOK_S = 1.0


def holder_of(address: str) -> str:
    """``process 4711 (python)``; empty where that cannot be known, as of other users' processes.

    Args:
        address: ``tcp://HOST:PORT`` or ``ipc:///PATH``.
    """
    scheme, _, rest = address.partition("://")
    pid = None
    if scheme == "tcp":
        pid = _listener_at(rest.rpartition(":")[2])
    elif scheme == "ipc":
        pid = _listener_on(rest)
    if not pid:
        return ""
    with suppress(psutil.Error):
        return f"process {pid} ({psutil.Process(pid).name()})"
    return f"process {pid}"


def _listener_at(port: str) -> int | None:
    """Who listens at this port, on whichever of the machine's addresses."""
    with suppress(psutil.Error, OSError):  # some systems tell it to the administrator only
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and str(each.laddr.port) == port and each.pid:
                return int(each.pid)
    return None


def _listener_on(path: str) -> int | None:
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(LOOK_S)
        probe.connect(path)
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(credentials)[0])
    return None
