"""Cell: the object that users hold: request and reply, handlers, and a place to mount services.

::

    application threads ─request()─▶ pack ─▶ mailbox ─▶ control loop ─▶ wire
                         ◀─ unpack ◀─ waiter ◀───────── control loop ◀─ wire
    handler pool         ◀─ unpack ◀────────────────────control loop ◀─ wire
                         ─ pack ─▶ mailbox ────────────▶ control loop ─▶ wire

`BareCell` has no services; `zdl.Cell` (`zdl.assembly`) mounts those that everybody needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from zdl.cell.aio import Aio
from zdl.cell.answers import Answers, Notices, Undelivered
from zdl.cell.calling import Caller, check_headers
from zdl.cell.codes import Replies
from zdl.cell.filtering import Asks, Spreads
from zdl.cell.filters import Filters
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, CallFuture, OnProgress, Sending
from zdl.cell.handlers import Function, Handlers, Registration
from zdl.cell.lending import Lending, Lent
from zdl.cell.life import Life
from zdl.cell.messages import Reply
from zdl.cell.opening import Doors, make_parts
from zdl.cell.service import Lender, Resolving, Service, target_of
from zdl.cell.signal import Signal
from zdl.cell.spreading import bodies_of
from zdl.cell.tree import Tree
from zdl.cell.watching import PeerInfo, Watching
from zdl.cell.workflow import Workflow
from zdl.cell.workflows import Workflows
from zdl.fqcn import parse
from zdl.objects.typetable import TypeTable
from zdl.options import Options
from zdl.transport.lane import Lane
from zdl.transport.lanes import Lanes
from zdl.transport.streams import StreamDesk
from zdl.transport.traffic import Traffic


class BareCell:
    """A participant of a fabric.

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
        filters: users' code that its messages pass on their way out and in, and that observes what it passes on.

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
        self._fqcn = parse(fqcn)
        self._options = options or Options()
        self.types = types
        self._doors = Doors.of(self._fqcn, parent, listen, data_listen, is_insecure=insecure, advertise=advertise)
        self._handlers = Handlers()
        self._life = Life(self._fqcn)
        self.filters = Filters(self._fqcn, check_headers)
        self.tree = Tree(self._fqcn, self._options.calls, self._life)
        self._watching: Watching | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._fqcn} {self._life.state} {' '.join(self.addresses)}>"

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
    def replies(self) -> Replies:
        """The same calls for those who want a return code whatever comes, and no exception."""
        return Replies(self._asking, self._spreading)

    @property
    def lane(self) -> Lane:
        """The data lane, for services."""
        return self._open_lanes().lane

    @property
    def pushing(self) -> StreamDesk:
        """What is streamed over the data lane, for services."""
        return self._open_lanes().streams

    @property
    def workflows(self) -> Workflows:
        """Those that it has made or is part of, for services."""
        return self._calling().workflows

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
            resolve: pull the refs in the body before the function runs; False: give it `Ref` leaves; ``"disk"``: pull them to disk.
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

    # --- messages -------------------------------------------------------------------------------

    def request(self, target: str, channel: str, topic: str, body: object = None, *, timeout_s: float | None = DEFAULT_S,
                headers: Mapping[str, object] = NO_HEADERS, abort: Signal | None = None, resolve: Resolving = True,
                receivers: Sequence[str] | int = 1, trace: bool = False, optional: bool = False,
                on_progress: OnProgress | None = None, lending: Lending | None = None, workflow: Workflow | None = None) -> Reply:
        """Send a request and wait for its reply.

        Args:
            target: FQCN of the cell that shall answer; may be this one.
            channel: first half of its handler's name.
            topic: second half.
            body: containers, text, bytes, numbers, None, datetimes, numpy arrays, refs, and what is registered in `types`.
            timeout_s: the one bound for all of it; by default ``options.calls.timeout_s``; None waits for ever. It
                begins anew while bytes come that the request or its reply lends, and when the handler reports progress.
            headers: plain values by name, for the handler.
            abort: triggering it ends the wait with `Cancelled`; the callee is told.
            resolve: pull the refs in the reply before returning; ``"disk"``: to the disk.
            receivers: who pulls the large arrays in the body: names, or how many cells. When all have it, it is lent no more.
            trace: have the cells on the way write down their names; the reply's `route` has them.
            optional: a failure is expected; it is raised all the same, and logged for debugging only.
            on_progress: is told what the handler reports by ``request.progress(facts)``, on the handler pool, in order.
            lending: how this body is packed and lent, and who hears when all have it. What was lent is in the reply's ``lent``.
            workflow: what it belongs to; see `workflow`.

        Raises:
            CannotPack, TooLarge: the body cannot travel; nothing was sent.
            NoRoute, PeerLost, Busy, Refused: it could not be delivered, or the way broke.
            TimedOut, Cancelled, Closed: nobody waits any more.
            RemoteError: the handler raised.
        """
        sending = Sending(timeout_s, headers, abort, resolve, receivers, trace, optional, on_progress, lending, workflow)
        return self._asking().request(target, channel, topic, body, sending)

    def request_future(self, target: str, channel: str, topic: str, body: object = None, *,
                       timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                       abort: Signal | None = None, resolve: Resolving = True, receivers: Sequence[str] | int = 1,
                       trace: bool = False, optional: bool = False, on_progress: OnProgress | None = None,
                       lending: Lending | None = None, workflow: Workflow | None = None) -> CallFuture:
        """Send a request; the future has the reply or the error, and what was lent. Cancelling it cancels the call.

        Threads: callbacks that are added to the future run on the handler pool, so they may block.
        """
        caller = self._asking()
        future = caller.future()
        sending = Sending(timeout_s, headers, abort, resolve, receivers, trace, optional, on_progress, lending, workflow)
        caller.request_future(target, channel, topic, body, sending, future=future)
        return future

    def notice(self, targets: str | Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
               headers: Mapping[str, object] = NO_HEADERS, receivers: Sequence[str] | int = 1, optional: bool = False,
               undelivered: Undelivered | None = None, lending: Lending | None = None, workflow: Workflow | None = None) -> Notices:
        """Send a message that is not answered, to one or many cells. It leaves soon; that it arrives is not known.

        Args:
            targets: one name, names that all get `body`, or a mapping of names to bodies.
            undelivered: called on the handler pool with target and error, where it failed; see `Notices`.
        """
        sending = Sending(headers=headers, receivers=receivers, optional=optional, lending=lending, workflow=workflow)
        return self._spreading().notice(bodies_of(targets, body), channel, topic, sending, undelivered)

    def broadcast(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
                  timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                  abort: Signal | None = None, resolve: Resolving = True, receivers: Sequence[str] | int = 1,
                  optional: bool = False, on_progress: OnProgress | None = None, lending: Lending | None = None,
                  workflow: Workflow | None = None) -> Answers:
        """One request to each of many targets; who looks at the answers waits for them.

        Args:
            targets: names that all get `body`, packed once; or a mapping of names to bodies.

        Returns:
            An `Answer` for every target, its reply or its error: by target, or ``as_completed()``.
        """
        sending = Sending(timeout_s, headers, abort, resolve, receivers, optional=optional, on_progress=on_progress,
                          lending=lending, workflow=workflow)
        return self._spreading().broadcast(bodies_of(targets, body), channel, topic, sending)

    def workflow(self, ttl_s: float) -> Workflow:
        """Messages that belong together, all of them over in so many seconds: see `zdl.cell.workflow`. Leaving it ends it.

        Raises:
            OptionError: it cannot last so long.
            Busy: ``calls.workflows_max`` are open.
        """
        return self._calling().workflows.make(ttl_s)

    def lent(self) -> Lent:
        """What messages of this cell have lent, requests, notices and replies, and what has not ended yet.

        Who exits while something is lent takes it away from who still wants it: ``cell.lent().wait(timeout_s)`` before.
        """
        return self._calling().packing.lent()

    # --- inside ---------------------------------------------------------------------------------

    def _open_lanes(self) -> Lanes:
        return self._life.open_lanes()

    def _watched(self) -> Watching:
        self._open_lanes()
        assert self._watching is not None
        return self._watching

    def _calling(self) -> Caller:
        return self._life.calling()

    def _asking(self) -> Asks:
        caller = self._calling()
        return self._life.behind(self._options, self.filters) if self.filters.is_used else caller

    def _spreading(self) -> Spreads:
        self._calling()
        return self._life.behind(self._options, self.filters) if self.filters.is_used else self._life.spreader(self._options)
