"""Cell: the object that users hold: request and reply, handlers, and a place to mount services.

::

    application threads ─request()─▶ pack ─▶ mailbox ─▶ control loop ─▶ wire
                         ◀─ unpack ◀─ waiter ◀───────── control loop ◀─ wire
    handler pool         ◀─ unpack ◀────────────────────control loop ◀─ wire
                         ─ pack ─▶ mailbox ────────────▶ control loop ─▶ wire

`BareCell` has no services; `zdl.Cell` (`zdl.assembly`) mounts those that everybody needs.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from zdl.cell.aio import Aio
from zdl.cell.answering import Answerer
from zdl.cell.calling import Caller
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, Sending
from zdl.cell.handlers import Function, Handlers, Pool, Registration
from zdl.cell.messages import Answer, Reply
from zdl.cell.service import Lender, Service
from zdl.cell.signal import Signal
from zdl.cell.watching import PeerInfo, Watching
from zdl.errors import Closed, OptionError
from zdl.fqcn import ROOT, parse
from zdl.options import Options
from zdl.transport.control import ControlEvents
from zdl.transport.lane import Lane
from zdl.transport.lanes import Lanes
from zdl.transport.traffic import Traffic

_LOG = logging.getLogger("zdl.cell")
# What the sockets and threads get of the time that close() has.
THREADS_S = 1.0


class BareCell:
    """A participant of a fabric.

    Args:
        fqcn: its name; one root (``server``), every other name stands below another one.
        parent: address of the cell above, ``tcp://HOST:PORT``, ``ipc:///PATH`` or ``inproc://NAME``; None for the root.
        listen: where cells below may connect: one address or several; port 0 takes a free one.
        data_listen: where the data lane listens; by default beside `listen`, else where the parent can reach it.
        insecure: without keys only ipc and loopback addresses are bound; True binds any.
        options: limits, times and sizes.

    Threads: all methods from any thread. Handlers run on a pool of the cell.
    Lifetime: a context manager; `start` opens, `close` ends; both may be called twice.

    Raises:
        FqcnError: the name is not one.
    """

    def __init__(self, fqcn: str, *, parent: str | None = None, listen: str | Sequence[str] = (),
                 data_listen: str | Sequence[str] = (), insecure: bool = False, options: Options | None = None) -> None:
        self._fqcn = parse(fqcn)
        self._options = options or Options()
        self._parent = parent
        self._listen = _several(listen)
        self._data_listen = _several(data_listen)
        self._is_insecure = insecure
        if parent is None and not self._listen and self._fqcn != ROOT:
            raise OptionError(name="parent", value="None", allowed=f"the address of the cell above; only {ROOT} has none")
        self._handlers = Handlers()
        self._pool: Pool | None = None
        self._services: list[Service] = []
        self._lock = threading.Lock()  # guards opening and closing
        self._lanes: Lanes | None = None
        self._caller: Caller | None = None
        self._answerer: Answerer | None = None
        self._closed: list[str] | None = None
        self._watching: Watching | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed is not None else "new" if self._lanes is None else "open"
        return f"<{type(self).__name__} {self._fqcn} {state} {' '.join(self.addresses)}>"

    # --- what it is -----------------------------------------------------------------------------

    @property
    def fqcn(self) -> str:
        """Its name."""
        return self._fqcn

    @property
    def options(self) -> Options:
        """Its options."""
        return self._options

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where cells below can dial it, with real ports; empty before it is started."""
        return () if self._lanes is None else self._lanes.addresses

    @property
    def data_addresses(self) -> tuple[str, ...]:
        """Where its data lane can be dialled."""
        return () if self._lanes is None else self._lanes.data_addresses

    @property
    def aio(self) -> Aio:
        """The awaitable twins of the calls below."""
        return Aio(self._calling)

    @property
    def lane(self) -> Lane:
        """The data lane, for services."""
        return self._open_lanes().lane

    @property
    def peers(self) -> list[PeerInfo]:
        """Its links on both lanes, as they are now."""
        self._open_lanes()
        assert self._watching is not None
        return self._watching.peers()

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

    # --- life -----------------------------------------------------------------------------------

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
        """
        with self._lock:
            if self._closed is not None:
                raise Closed(fqcn=self._fqcn)
            if self._lanes is not None:
                return
            lanes = Lanes(self._fqcn, parent=self._parent, listen=self._listen, data_listen=self._data_listen,
                          is_insecure=self._is_insecure, options=self._options)
            watching = self._watching = Watching(self._fqcn, self._parent, lanes)
            pool = self._pool = Pool(f"zdl-handler-{self._fqcn}", self._fqcn, self._options.calls, loop=lanes.control_loop)
            events = ControlEvents(
                handle=lambda message: self._answering().handle(message),
                abort=lambda origin, number: self._answering().abort(origin, number),
                undelivered=self._undelivered,
                peer_up=watching.peer_up, peer_down=watching.peer_down, unreachable=lanes.lane.unreachable,
                parent_failed=watching.parent_failed, tick=pool.tick, deadline=pool.deadline)
            control = lanes.prepare(self._fqcn, events)
            self._caller = Caller(self._fqcn, self._options, control, pool, lambda: self._closed is None)
            self._answerer = Answerer(self._fqcn, self._options, handlers=self._handlers, pool=pool,
                                      caller=self._caller, control=control)
            self._lanes = lanes
        self._mount_services()
        lanes.start(control)

    def wait_ready(self, timeout_s: float = 10.0) -> None:
        """Wait until the parent is connected; a cell without a parent is ready at once.

        Raises:
            Refused: the parent does not want us: version, name taken, name not below it.
            TimedOut: it is not there; says why the last try failed.
        """
        self._open_lanes()
        assert self._watching is not None
        self._watching.wait_parent(timeout_s)

    def close(self, timeout_s: float | None = None) -> list[str]:
        """End: finish what is running, say goodbye, stop the threads, close the sockets.

        Args:
            timeout_s: how long to wait for handlers and confirmations; by default ``options.close_s``.

        Returns:
            What did not finish in time, in words; empty when all did.
        """
        until = time.monotonic() + (self._options.close_s if timeout_s is None else timeout_s)
        with self._lock:
            if self._closed is not None or self._lanes is None:
                self._closed = self._closed or []
                return self._closed
            self._closed = left = []
            lanes = self._lanes
        for service in reversed(self._services):
            left += service.close(max(0.0, until - time.monotonic()))
        assert lanes.control is not None
        lanes.control.close()
        assert self._pool is not None
        running = self._pool.close(max(0.0, until - time.monotonic()))
        running += self._answering().close(max(0.0, until - time.monotonic()))
        if running:
            left.append(f"{running} handlers are still running")
        left += lanes.close(max(THREADS_S, until - time.monotonic()))
        for each in left:
            _LOG.warning("! %s: %s", self._fqcn, each)
        return left

    # --- handlers -------------------------------------------------------------------------------

    def handler(self, channel: str, topic: str, *, resolve: bool = True,
                inline: bool = False) -> Callable[[Function], Function]:
        """Decorator: the function answers requests on this channel and topic; ``*`` is any.

        Args:
            channel: first half of the name.
            topic: second half.
            resolve: pull the refs in the body before the function runs; False gives it `Ref` leaves, which it
                may send on unopened.
            inline: run on the loop itself: only for functions that take microseconds and never block. Refs are
                not pulled for it.
        """
        def register(function: Function) -> Function:
            self._handlers.add(channel, topic, Registration(function, resolve and not inline, inline))
            return function

        return register

    def mount(self, service: Service, *, lender: Lender | None = None) -> None:
        """Close this service with the cell; `lender`: it lends what is too large for a message."""
        self._services.append(service)
        if lender is not None:
            self._calling().use_lender(lender)
            self._answering().use_lender(lender)

    def _mount_services(self) -> None:
        """What a cell with services mounts before its threads start."""

    # --- messages -------------------------------------------------------------------------------

    def request(self, target: str, channel: str, topic: str, body: object = None, *, timeout_s: float | None = DEFAULT_S,
                headers: Mapping[str, object] = NO_HEADERS, abort: Signal | None = None, resolve: bool = True,
                receivers: Sequence[str] | int = 1) -> Reply:
        """Send a request and wait for its reply.

        Args:
            target: FQCN of the cell that shall answer; may be this one.
            channel: first half of its handler's name.
            topic: second half.
            body: dict, list, tuple, str, bytes, int, float, bool, None, numpy arrays, refs, nested as you like.
            timeout_s: the one bound for all of it; by default ``options.calls.timeout_s``; None waits for ever.
            headers: plain values by name, for the handler.
            abort: triggering it ends the wait with `Cancelled`; the callee is told.
            resolve: pull the refs in the reply before returning.
            receivers: who will pull the large arrays in the body: names, or how many different cells. What is
                lent is released when they all have it.

        Raises:
            CannotPack, TooLarge: the body cannot travel; nothing was sent.
            NoRoute, PeerLost, Busy, Refused: it could not be delivered, or the way broke.
            TimedOut, Cancelled, Closed: nobody waits any more.
            RemoteError: the handler raised.
        """
        return self._calling().request(target, channel, topic, body, Sending(timeout_s, headers, abort, resolve, receivers))

    def request_future(self, target: str, channel: str, topic: str, body: object = None, *,
                       timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                       abort: Signal | None = None, resolve: bool = True,
                       receivers: Sequence[str] | int = 1) -> concurrent.futures.Future[Reply]:
        """Send a request; the future has the reply or the error. Cancelling the future cancels the call.

        Threads: callbacks that are added to the future run on the handler pool, so they may block.
        """
        caller = self._calling()
        future = caller.future()
        caller.request_future(target, channel, topic, body, Sending(timeout_s, headers, abort, resolve, receivers), future=future)
        return future

    def notice(self, target: str, channel: str, topic: str, body: object = None, *,
               headers: Mapping[str, object] = NO_HEADERS, receivers: Sequence[str] | int = 1) -> None:
        """Send a message that is not answered. It leaves soon; that it arrives is not known."""
        self._calling().notice(target, channel, topic, body, Sending(headers=headers, receivers=receivers))

    def broadcast(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
                  timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                  abort: Signal | None = None, resolve: bool = True,
                  receivers: Sequence[str] | int = 1) -> dict[str, Answer]:
        """One request to each of many targets; waits for all of them.

        Args:
            targets: names that all get `body`, packed once; or a mapping of names to bodies.

        Returns:
            An `Answer` for every target: its reply or its error.
        """
        bodies = dict(targets) if isinstance(targets, Mapping) else {each: body for each in targets}
        return self._calling().broadcast(bodies, channel, topic, Sending(timeout_s, headers, abort, resolve, receivers))

    # --- inside ---------------------------------------------------------------------------------

    def _open_lanes(self) -> Lanes:
        if self._lanes is None or self._closed is not None:
            raise Closed(fqcn=self._fqcn)
        return self._lanes

    def _calling(self) -> Caller:
        if self._caller is None or self._closed is not None:
            raise Closed(fqcn=self._fqcn)
        return self._caller

    def _answering(self) -> Answerer:
        assert self._answerer is not None
        return self._answerer

    def _undelivered(self, number: int) -> None:
        assert self._caller is not None  # messages come back while the cell closes, too
        self._caller.undelivered(number)


def _several(addresses: str | Sequence[str]) -> tuple[str, ...]:
    return (addresses,) if isinstance(addresses, str) else tuple(addresses)
