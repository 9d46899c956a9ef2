"""Making sockets: every option with its reason, and which addresses may be bound.

A cell listens with ROUTER sockets and dials with DEALER sockets. Control and data have sockets of
their own on libzmq I/O threads of their own (measured: a small request beside saturating bulk has a p99
of 0.68 ms so, 1.2–2.7 ms on one I/O thread, 6.5 ms on one socket).
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import re
import socket as system_socket
import stat
from contextlib import suppress

import zmq

from zdl.errors import OptionError, Refused
from zdl.options import FRAME_BYTES_MAX
from zdl.transport.holder import holder_of

LIBZMQ_LEAST = (4, 3, 5)
IO_THREADS = 2
CONTROL_AFFINITY = 1  # bit mask over the I/O threads
DATA_AFFINITY = 2
# Messages, not bytes: bytes are bounded by windows and by calls_max. 10,000 requests at once must fit.
CONTROL_MESSAGES_MAX = 20_000
DATA_MESSAGES_MAX = 4096
HANDSHAKE_MS = 3000
RECONNECT_MS = 3_600_000
# What a socket that is closed may still take to hand over a goodbye.
LINGER_MS = 300
LISTEN_BACKLOG = 1024
# What loopback sends by when the system's own choice paces (BBR): there is nothing to pace on loopback. Measured
# for bare pyzmq in one run: 3.06 GiB/s as the system chose, 5.30 with this.
LOOPBACK_CONGESTION = b"reno"
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")


def check_versions() -> None:
    """Raises `Refused` when libzmq is too old to be safe on a network."""
    if zmq.zmq_version_info() < LIBZMQ_LEAST:
        least = ".".join(map(str, LIBZMQ_LEAST))
        raise Refused(by="zdl", reason="version",
                      text=f"libzmq {zmq.zmq_version()} is older than {least}: pip install -U pyzmq")


def make_context(addresses: tuple[str, ...]) -> tuple[zmq.Context[zmq.Socket[bytes]], bool]:
    """The context for a cell with these addresses, and whether it is the cell's own.

    ``inproc`` addresses exist within one context only, so cells that use them share the process's one.
    """
    if any(address.startswith("inproc://") for address in addresses):
        return zmq.Context.instance(IO_THREADS), False
    return zmq.Context(IO_THREADS), True


def make_router(context: zmq.Context[zmq.Socket[bytes]], *, is_data: bool) -> zmq.Socket[bytes]:
    """A socket to listen with."""
    socket = context.socket(zmq.ROUTER)
    _common(socket, is_data=is_data)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else what cannot be delivered is dropped without a word
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)  # else a routing id can be stolen
    return socket


def make_dealer(context: zmq.Context[zmq.Socket[bytes]], *, is_data: bool) -> zmq.Socket[bytes]:
    """A socket to dial with. It sets no routing id, and lives as long as its one connection."""
    socket = context.socket(zmq.DEALER)
    _common(socket, is_data=is_data)
    # A new connection is a new link, with its own HELLO, so this socket is closed before it would connect again. Not -1,
    # which says never: with that libzmq drops what has arrived and is not read yet when the connection ends.
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, HANDSHAKE_MS)
    return socket


def _common(socket: zmq.Socket[bytes], *, is_data: bool) -> None:
    limit = DATA_MESSAGES_MAX if is_data else CONTROL_MESSAGES_MAX
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)  # a claim of more closes the connection, unallocated
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)  # connections that never finish greeting are dropped
    socket.setsockopt(zmq.SNDHWM, limit)
    socket.setsockopt(zmq.RCVHWM, limit)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.AFFINITY, DATA_AFFINITY if is_data else CONTROL_AFFINITY)


# --- addresses ------------------------------------------------------------------------------------


def speak_ipv6(socket: zmq.Socket[bytes], address: str) -> None:
    """An address in brackets is dialled or bound only by a socket that was told so."""
    if "[" in address:
        socket.setsockopt(zmq.IPV6, 1)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    scheme, _, rest = address.partition("://")
    if scheme in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listen(address: str, *, is_insecure: bool) -> None:
    """Raises for an address that cannot or must not be bound.

    Raises:
        OptionError: no such kind of address, or one that other machines reach, without keys.
    """
    scheme, sep, rest = address.partition("://")
    if not sep or scheme not in ("tcp", "ipc", "inproc") or not rest:
        raise OptionError(name="listen", value=address, allowed="tcp://HOST:PORT, ipc:///PATH or inproc://NAME")
    if scheme == "tcp" and ":" not in rest:
        raise OptionError(name="listen", value=address, allowed="a port is missing: tcp://127.0.0.1:8800, or :0 for any")
    if not is_loopback(address) and not is_insecure:
        raise OptionError(name="listen", value=address, allowed=(
            "without keys only ipc and loopback addresses are bound; pass insecure=True to let anybody who reaches "
            "this address speak"))


def bind(socket: zmq.Socket[bytes], address: str) -> str:
    """Binds, and returns the address as it came out (with its real port).

    Raises:
        OptionError: the address is taken or is not one of this machine.
    """
    scheme, _, rest = address.partition("://")
    speak_ipv6(socket, address)
    if scheme == "ipc":
        return _bind_ipc(socket, address, rest)
    try:
        if scheme == "tcp" and is_loopback(address) and hasattr(system_socket, "TCP_CONGESTION"):
            address = _listen_unpaced(socket, rest)
        elif scheme == "tcp" and rest.endswith(":0"):
            address = address[:-1] + "*"
        socket.bind(address)
    except (zmq.ZMQError, OSError) as error:
        why = (error.strerror or str(error)).lower()
        holder = holder_of(address) if error.errno == errno.EADDRINUSE else ""
        by = f" by {holder}" if holder else ""
        raise OptionError(name="listen", value=address, allowed=f"it cannot be bound: {why}{by}") from error
    socket.setsockopt(zmq.USE_FD, -1)  # it is for one bind only
    return socket.getsockopt_string(zmq.LAST_ENDPOINT) if scheme == "tcp" else address


def _listen_unpaced(socket: zmq.Socket[bytes], rest: str) -> str:
    """Listens with a socket whose connections do not pace, for libzmq to take over; returns its address."""
    host, _, port = rest.rpartition(":")
    family = system_socket.AF_INET6 if ":" in host else system_socket.AF_INET
    listener = system_socket.socket(family, system_socket.SOCK_STREAM)
    try:
        listener.setsockopt(system_socket.SOL_SOCKET, system_socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # a system without it keeps its own choice
            listener.setsockopt(system_socket.IPPROTO_TCP, system_socket.TCP_CONGESTION, LOOPBACK_CONGESTION)
        listener.bind((host.strip("[]"), 0 if port in ("", "*") else int(port)))
        listener.listen(LISTEN_BACKLOG)
    except (OSError, ValueError):
        listener.close()
        raise
    actual = listener.getsockname()[1]
    socket.setsockopt(zmq.USE_FD, listener.detach())
    return f"tcp://{host}:{actual}"


def _bind_ipc(socket: zmq.Socket[bytes], address: str, path: str) -> str:
    """libzmq takes over a path that a living process listens on; so look first, under a lock on the folder."""
    folder = os.path.dirname(path) or "."
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OptionError(name="listen", value=address, allowed=f"its folder cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_answered(path):
            raise OptionError(name="listen", value=address, allowed=f"{holder_of(address) or 'a living process'} listens there")
        try:
            socket.bind(address)
            os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
        except (zmq.ZMQError, OSError) as error:
            raise OptionError(name="listen", value=address, allowed=f"it cannot be bound: {error.strerror}") from error
    finally:
        os.close(lock)
    return address


def _is_answered(path: str) -> bool:
    """Whether somebody accepts connections at this path."""
    if not os.path.exists(path):
        return False
    with system_socket.socket(system_socket.AF_UNIX, system_socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def forget_ipc(address: str) -> None:
    """Removes the file of an ipc address that this cell has bound."""
    scheme, _, path = address.partition("://")
    if scheme == "ipc":
        with suppress(FileNotFoundError):
            os.unlink(path)


def advertised(address: str, host: str | None = None) -> str:
    """The address that others can dial.

    Args:
        address: as it is bound, with its real port.
        host: what others call this machine; None: a wildcard is replaced by this machine's name.

    Raises:
        OptionError: `host` is not the name or the address of a machine.
    """
    scheme, _, rest = address.partition("://")
    bound, _, port = rest.rpartition(":")
    if scheme != "tcp":
        return address
    if host is not None:
        return f"tcp://{_host_in_address(host)}:{port}"
    return f"tcp://{system_socket.gethostname()}:{port}" if bound in ("*", "0.0.0.0", "[::]") else address


def _host_in_address(host: str) -> str:
    """The host as it stands in an address: a version 6 one in brackets."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return f"[{bare}]" if ipaddress.ip_address(bare).version == 6 else bare
    except ValueError:
        if _HOST_NAME.fullmatch(host) is None:
            raise OptionError(name="advertise", value=f"{host:.80}", allowed=(
                "a host name or an IP address, without scheme and port, e.g. gpu-7.example.org")) from None
        return host
