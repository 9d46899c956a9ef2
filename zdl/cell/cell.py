"""Cell: the object that users hold: request and reply, handlers, and a place to mount services.

::

    application threads ─request()─▶ pack ─▶ mailbox ─▶ control loop ─▶ wire
                         ◀─ unpack ◀─ waiter ◀───────── control loop ◀─ wire
    handler pool         ◀─ unpack ◀────────────────────control loop ◀─ wire
                         ─ pack ─▶ mailbox ────────────▶ control loop ─▶ wire

`BareCell` has no services; `zdl.Cell` (`zdl.assembly`) mounts those that everybody needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from zdl.cell.aio import Aio
from zdl.cell.handlers import Function, Handlers, Registration
from zdl.cell.messaging import Messaging
from zdl.cell.opening import Doors, make_parts
from zdl.cell.service import Lender, Resolving, Service, target_of
from zdl.cell.tree import Tree
from zdl.cell.watching import PeerInfo, Watching
from zdl.objects.typetable import TypeTable
from zdl.options import Options
from zdl.transport.lane import Lane
from zdl.transport.lanes import Lanes
from zdl.transport.streams import StreamDesk
from zdl.transport.traffic import Traffic


class BareCell(Messaging):
    """A participant of a fabric; what it sends is in `Messaging`.

    Args:
        fqcn: its name; one root (``server``), every other name stands below another one.
        parent: address of the cell above, ``tcp://HOST:PORT``, ``ipc:///PATH`` or ``inproc://NAME``; None for the root.
        listen: where cells below may connect: one address or several; port 0 takes a free one.
        data_listen: where the data lane listens; by default beside `listen`, else where the parent can reach it.
        insecure: without keys only ipc and loopback addresses are bound; True binds any.
        advertise: the host name or IP address by which other machines reach its tcp addresses, where that is not the
            one that it binds: behind a wildcard, a container or an address translation. Ports stay as they are bound.
        options: limits, times and sizes.
        types: which classes of yours may travel, and under which names; the same names on both sides.

    Attributes:
        tree: who is below it, who can be reached and which way; and callbacks for what changes there.

    Threads: all methods from any thread. Handlers run on a pool of the cell.
    Lifetime: a context manager; `start` opens, `close` ends; both may be called twice. One that is collected, or
        still open when the interpreter exits, is ended with a `ResourceWarning` that says where it was made. After a
        fork it works in the process that started it; in the child everything raises `ForkedCell`.

    Raises:
        FqcnError: the name is not one.
    """

    def __init__(self, fqcn: str, *, parent: str | None = None, listen: str | Sequence[str] = (),
                 data_listen: str | Sequence[str] = (), insecure: bool = False, advertise: str | None = None,
                 options: Options | None = None, types: TypeTable = TypeTable()) -> None:
        super().__init__(fqcn, options or Options())
        self.types = types
        self._doors = Doors.of(self._fqcn, parent, listen, data_listen, is_insecure=insecure, advertise=advertise)
        self._handlers = Handlers()
        self.tree = Tree(self._fqcn, self._options.calls, self._life)
        self._watching: Watching | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._fqcn} {self._life.state} {' '.join(self.addresses)}>"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where cells below can dial it, with real ports; empty before it is started."""
        return () if self._life.lanes is None else self._life.lanes.addresses

    @property
    def data_addresses(self) -> tuple[str, ...]:
        """Where its data lane can be dialled."""
        return () if self._life.lanes is None else self._life.lanes.data_addresses

    @property
    def aio(self) -> Aio:
        """The awaitable twins of the calls below."""
        return Aio(self._asking, self._spreading, self._watched, self.close)

    @property
    def lane(self) -> Lane:
        """The data lane, for services."""
        return self._open_lanes().lane

    @property
    def pushing(self) -> StreamDesk:
        """What is streamed over the data lane, for services."""
        return self._open_lanes().streams

    @property
    def peers(self) -> list[PeerInfo]:
        """Its links on both lanes, as they are now."""
        return self._watched().peers()

    @property
    def incarnation(self) -> str:
        """What tells this start from others of the same name: 16 random bytes, in hex."""
        return self._open_lanes().incarnation.hex()

    @property
    def parent_error(self) -> str:
        """Why the parent is not there, as last seen; empty while it is."""
        return "" if self._watching is None else str(self._watching.parent_error or "")

    @property
    def traffic(self) -> tuple[list[Traffic], list[Traffic]]:
        """What has moved over each link so far: on the control lane, on the data lane."""
        lanes = self._open_lanes()
        return lanes.control_loop.traffic(), lanes.data_loop.traffic()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Bind, start the threads, begin to connect to the parent. Returns at once; see `wait_ready`.

        Raises:
            OptionError: an address cannot or must not be bound.
            Closed: it was closed before.
            ForkedCell: it was started before this process was forked.
        """
        self._life.begin(self._opened)

    def _opened(self) -> None:
        """Makes and starts the parts."""
        parts = make_parts(self._fqcn, self._doors, self._options, self._life, handlers=self._handlers, filters=self.filters,
                           callbacks=self.tree.callbacks, types=self.types)
        self._watching = parts.watching
        self._life.watch(self, parts.caller)
        self._mount_services()
        parts.start()

    def wait_ready(self, timeout_s: float = 10.0) -> None:
        """Wait until the parent is connected; a cell without a parent is ready at once.

        Raises:
            Refused: the parent does not want us: version, name taken, name not below it.
            TimedOut: it is not there; says why the last try failed.
        """
        self._watched().wait_parent(timeout_s)

    def close(self, timeout_s: float | None = None) -> list[str]:
        """End: finish what is running, say goodbye, stop the threads, close the sockets.

        Args:
            timeout_s: how long to wait for handlers and confirmations; by default ``options.close_s``.

        Returns:
            What did not finish in time, in words; empty when all did, and in a forked child, where nothing runs.
        """
        return self._life.close(self._options.close_s if timeout_s is None else timeout_s)

    # --- handlers -------------------------------------------------------------------------------

    def handler(self, channel: str, topic: str, *, resolve: Resolving = True,
                inline: bool = False) -> Callable[[Function], Function]:
        """Decorator: the function answers requests on this channel and topic; ``*`` is any.

        Args:
            channel: first half of the name.
            topic: second half.
            resolve: pull the refs in the body before the function runs; ``"disk"``: to disk; False: see `Request.body`.
            inline: run on the loop itself: only for functions that take microseconds and never block. Refs are not pulled for it.
        """
        target_of(resolve)

        def register(function: Function) -> Function:
            self._handlers.add(channel, topic, Registration(function, False if inline else resolve, inline))
            return function

        return register

    def mount(self, service: Service, *, lender: Lender | None = None) -> None:
        """Close this service with the cell; `lender`: it lends what is too large for a message."""
        self._life.services.append(service)
        if lender is not None:
            self._calling().use_lender(lender)
            assert self._life.answerer is not None
            self._life.answerer.use_lender(lender)

    def _mount_services(self) -> None:
        """What a cell with services mounts before its threads start."""

    # --- inside ---------------------------------------------------------------------------------

    def _open_lanes(self) -> Lanes:
        return self._life.open_lanes()

    def _watched(self) -> Watching:
        self._open_lanes()
        assert self._watching is not None
        return self._watching
