"""Lanes: both threads of one cell, from binding to the last goodbye.

Threads: `open` and `close` from the thread that opens and closes the cell.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from zdl.errors import OptionError
from zdl.options import Options
from zdl.protocol.link import Self
from zdl.protocol.subtree import Subtree
from zdl.protocol.switch import Switch
from zdl.transport.control import Control, ControlEvents
from zdl.transport.desks import DataDesk
from zdl.transport.interrupts import Interrupts
from zdl.transport.lane import Lane
from zdl.transport.links import Links
from zdl.transport.loop import Loop
from zdl.transport.mailbox import Mailbox
from zdl.transport.place import host, place
from zdl.transport.segments import Segments
from zdl.transport.sockets import advertised, check_versions, is_loopback, make_context
from zdl.transport.streams import StreamDesk

# Ids of calls and pulls begin at a random number of so many bits, so that they never meet those of a
# former self; the rest of 64 bits is room to count.
FIRST_ID_BITS = 62
# What the tokens of introductions are made of.
SECRET_BYTES = 32
CLOSE_STEP_S = 0.005
CLOSE_LEAST_S = 1.0
# Just below the 32 MiB to which glibc lets its threshold grow.
PRIME_BYTES = 31 << 20
# Linux numbers processes up to 2**22; whatever begins with a longer number was not named after one.
PID_DIGITS_MAX = 9


class Lanes:
    """The sockets, threads and machines of one cell.

    Args:
        fqcn: its name.
        parent: address of the parent's control lane, or None for the root.
        listen: addresses of the control lane.
        data_listen: addresses of the data lane; derived from `listen` or `parent` when empty.
        is_insecure: whether other machines may be let in without keys.
        advertise: the host that others dial, where it is not the one that is bound.
        options: of the cell.
    """

    def __init__(self, fqcn: str, *, parent: str | None, listen: Sequence[str], data_listen: Sequence[str],
                 is_insecure: bool, advertise: str | None = None, options: Options) -> None:
        check_versions()
        keep_freed_memory()
        self._parent = parent
        self._options = options
        addresses = (*listen, *data_listen, *([parent] if parent else []))
        self._context, self._is_own = make_context(addresses)
        self.incarnation = os.urandom(16)
        with ExitStack() as undo:  # a context that still has a socket would wait for it for ever, wherever it is collected
            undo.callback(self._end_context, CLOSE_LEAST_S)
            interrupts = Interrupts()  # a socket that is half made could not be closed
            held = interrupts.hold()
            undo.callback(interrupts.let_go, held)
            control_links = Links(self._context, fqcn, is_data=False)
            undo.callback(control_links.close)
            data_links = Links(self._context, fqcn, is_data=True)
            undo.callback(data_links.close)
            bound = tuple(control_links.bind(each, is_insecure=is_insecure) for each in listen)
            self.addresses = tuple(advertised(each, advertise) for each in bound)
            wanted = data_listen or derive_data_addresses(bound, parent, self.incarnation)
            self.data_addresses = tuple(advertised(data_links.bind(each, is_insecure=is_insecure), advertise) for each in wanted)
            me = Self(fqcn, self.incarnation, self.data_addresses, addresses=self.addresses,
                      host=host(shares_memory=not self._is_own), place=place(), secret=os.urandom(SECRET_BYTES))
            calls = options.calls
            self.control_loop = Loop(f"zdl-control-{fqcn}", Switch(me, options.links, watches=True), control_links,
                                     Mailbox(fqcn, calls.mailbox_max), spin_s=options.links.spin_s)
            self.data_loop = Loop(f"zdl-data-{fqcn}", Switch(me, options.links, watches=False), data_links,
                                  Mailbox(fqcn, calls.mailbox_max))
            self.segments = Segments(fqcn, options.offers, host=host(shares_memory=False))
            self.lane = Lane(fqcn, first_id(), options, self.data_loop, self.segments)
            self.streams = StreamDesk(fqcn, first_id(), options, self.data_loop)
            self.control: Control | None = None
            interrupts.let_go(held)
            undo.pop_all()

    def prepare(self, fqcn: str, events: ControlEvents) -> Control:
        """The desk of the control lane, before anything runs."""
        self.control = Control(fqcn, first_id(), self._options.calls, self.control_loop, events,
                               subtree=Subtree(fqcn, self._options.links))
        return self.control

    def start(self, control: Control) -> None:
        """Start both threads and dial the parent."""
        self.data_loop.start(DataDesk(self.lane, self.streams))
        self.control_loop.start(control)
        if self._parent is not None:
            control.dial_parent(self._parent)

    def close(self, timeout_s: float) -> list[str]:
        """Say goodbye, end the threads, close the sockets. Returns what did not end in time; each has `CLOSE_LEAST_S` at least."""
        until = time.monotonic() + timeout_s
        left = []
        for loop in (self.data_loop, self.control_loop):
            if not loop.stop(max(until - time.monotonic(), CLOSE_LEAST_S)):
                left.append(repr(loop))
        if not self.segments.close(CLOSE_LEAST_S):
            left.append(repr(self.segments))
        if not left and not self._end_context(max(until - time.monotonic(), CLOSE_LEAST_S)):
            left.append("libzmq is still closing the connections")
        return left

    def _end_context(self, timeout_s: float) -> bool:
        """With all its sockets: one that a signal has kept from being noted would have its end waited for for ever.

        libzmq's thread has to close each connection. Beside 1,000 peers that dial again on the same two processors it got so
        little of them that this took 9 s; so it goes on by itself when the time is over. Returns whether it has ended.
        """
        if not self._is_own:
            return True
        ending = threading.Thread(target=self._context.destroy, args=(0,), name="zdl-sockets-end", daemon=True)
        try:
            ending.start()
        except RuntimeError:  # the interpreter exits, and starts no more threads
            self._context.destroy(0)
            return True
        ending.join(timeout_s)
        return not ending.is_alive()


def keep_freed_memory() -> None:
    """Has glibc keep the memory that libzmq frees, up to 62 MiB, instead of giving it back with every chunk.

    libzmq allocates a buffer for each chunk that it receives. By glibc's first thresholds that memory goes back
    to the system when it is freed, and the next chunk costs page faults again: up to 40,000 for a pull of 512 MiB.
    Freeing one block larger than any chunk raises the thresholds for good. Measured for bare pyzmq in one run:
    3.06 GiB/s before, 4.65 after. The block must not be touched, or it costs 19 ms and 27 MiB of memory: so it is
    the buffer of a read that finds nothing.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.read(nothing, PRIME_BYTES)
    finally:
        os.close(nothing)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition that another thread brings about holds within the time."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(CLOSE_STEP_S)
    return True


def first_id() -> int:
    """A random place to begin counting."""
    return int.from_bytes(os.urandom(8), "big") >> (64 - FIRST_ID_BITS)


def derive_data_addresses(listen: Sequence[str], parent: str | None, incarnation: bytes) -> tuple[str, ...]:
    """Where the data lane listens when nobody said: beside the control lane, else where the parent can reach it.

    A cell whose parent is on another machine gets none: without keys it must not listen there, and its
    objects are pulled along the tree, over the links that it dialled itself.
    """
    found: list[str] = []
    for address in listen or ([parent] if parent else []):
        scheme, _, rest = address.partition("://")
        if scheme == "inproc":
            found.append(f"inproc://zdl-data-{incarnation.hex()}")
        elif scheme == "ipc":
            path = f"{rest}.data" if listen else f"{runtime_folder()}/{os.getpid()}-{incarnation.hex()[:12]}"
            found.append(f"ipc://{path}")
        elif listen:
            host = rest.rpartition(":")[0]
            found.append(f"tcp://{host}:0")
        elif is_loopback(address):
            found.append("tcp://127.0.0.1:0")
    return tuple(dict.fromkeys(found))


def data_address_of(parent: str, addresses: Sequence[str]) -> str | None:
    """Where to dial a parent's data lane: the way the parent itself was dialled, else any way but ``inproc``.

    Args:
        parent: the address of its control lane that was dialled.
        addresses: where its data lane listens, as it says.
    """
    scheme, host = _scheme_and_host(parent)
    alike = [each for each in addresses if _scheme_and_host(each)[0] == scheme]
    nearest = [each for each in alike if _scheme_and_host(each)[1] == host]
    others = [each for each in addresses if not each.startswith("inproc://")]
    return next(iter((*nearest, *alike, *others)), None)


def _scheme_and_host(address: str) -> tuple[str, str]:
    scheme, _, rest = address.partition("://")
    return scheme, rest.rpartition(":")[0] if scheme == "tcp" else ""


def runtime_folder() -> Path:
    """This user's folder for ipc sockets."""
    return private_folder(Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()))


def private_folder(root: Path) -> Path:
    """The user's own folder below `root`, mode 0700; what processes that are gone have left in it is removed.

    Raises:
        OptionError: it belongs to somebody else, is a link, or others may enter it.
    """
    folder = root / f"zdl-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise OptionError(name="listen", value=str(folder), allowed="the folder must be yours alone: chmod 700, or remove it")
    for entry in folder.iterdir():
        owner = entry.name.partition("-")[0]
        if owner.isdecimal() and len(owner) <= PID_DIGITS_MAX and not psutil.pid_exists(int(owner)):
            entry.unlink(missing_ok=True)
    return folder
