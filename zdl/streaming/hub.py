"""Hub: what all kinds of streams of one cell share: who takes in what, the threads, packing, and the way to a receiver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.calling import check_headers, check_names
from zdl.cell.cell import BareCell
from zdl.cell.futures import NO_HEADERS
from zdl.cell.service import Lender
from zdl.cell.workflow import Workflow
from zdl.errors import OptionError, Refused
from zdl.fqcn import parse
from zdl.protocol.lag import Lag
from zdl.protocol.messages import Body
from zdl.protocol.pushes import Opening
from zdl.protocol.pushing import Open
from zdl.streaming.api import LOCAL_KEYS, Context, StreamContextKey
from zdl.streaming.crew import Crew
from zdl.streaming.fan import Fan
from zdl.streaming.outbox import Outbox
from zdl.streaming.outflow import Outflow, Replied
from zdl.streaming.packer import Packer
from zdl.streaming.registry import Registry

# Asked of a receiver before it is dialled: where its data lane listens.
CHANNEL = "zdl"
ADDRESSES_TOPIC = "data-addresses"
OBJECTS = "objects"


class Hub:
    """What the streams of one cell share.

    Threads: `check_form` on the lane; the others from any thread but the loops'.

    Args:
        cell: whose streams.
        lender: lends what is too large for an item.

    Attributes:
        registry: who takes in what.
        crew: the threads.
        packer: objects to items and back.
    """

    def __init__(self, cell: BareCell, lender: Lender | None) -> None:
        self._cell = cell
        self._fqcn = cell.fqcn
        self._options = options = cell.options.streams
        self.registry = Registry(cell.fqcn)
        self.crew = Crew(cell.fqcn, options.intakes_max + options.no_wait_max)
        self.packer = Packer(cell.options, lender, cell.types)
        self._end_all: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<Hub of {self._fqcn}: {self.registry!r}, {self.crew!r}>"

    def attach(self) -> None:
        """The lanes of the cell are made."""
        desk = self._cell.pushing
        desk.listen(self.registry.opened)
        self._end_all = desk.close

    def close(self, timeout_s: float) -> list[str]:
        """End all streams, and say so; stop the threads."""
        self._end_all()
        running = self.crew.close(timeout_s)
        return [f"{self._fqcn}: {running} consumers or producers of streams are still running"] if running else []

    def outflow(self, form: str, to: tuple[str, str, str], outbox: Outbox, *, bytes_total: int = 0,
                headers: Mapping[str, object] = NO_HEADERS, context: Body = (), replied: Replied | None = None,
                workflow: Workflow | None = None) -> Outflow:
        """For what stands on this service: one stream to one cell, when a way to it was looked for.

        Raises:
            Cancelled: the workflow is over.
        """
        channel, topic, target = to
        check_names(channel, topic)
        if headers:
            check_headers(headers)
        name = parse(target)
        self._find_way(name)
        if workflow is not None:
            headers = {**headers, **workflow.carried((name,))}
        opening = Opening(name, channel, topic, form, bytes_total, tuple(headers.items()), context)
        outflow = Outflow(self._cell, opening, outbox, replied)
        if workflow is not None:
            outflow.end_with(workflow.ended, "its workflow is over")
        return outflow

    def _find_way(self, target: str) -> None:
        """Waits until the receiver is linked directly, or cannot be, or has been waited for long enough."""
        cell = self._cell
        desk = cell.pushing
        if desk.is_direct(target):
            return
        options = cell.options.streams
        told = cell.request(target, CHANNEL, ADDRESSES_TOPIC, timeout_s=options.lost_timeout_s).body
        found = [each for each in told if isinstance(each, str)] if isinstance(told, list) and options.direct else []
        is_inproc = any(each.startswith("inproc://") for each in cell.data_addresses)
        addresses = [each for each in found if is_inproc or not each.startswith("inproc://")]
        chosen = threading.Event()
        desk.way(target, addresses, chosen.set)
        chosen.wait(cell.options.pulls.direct_timeout_s + 1.0)

    def check_form(self, message: Open, form: str) -> None:
        """Raises `Refused` for a stream of another form than is taken in here."""
        if message.form != form:
            raise Refused(by=self._fqcn, reason="no-handler",
                          text=f"{message.channel}/{message.topic} takes {form}, not {message.form}")

    def fan(self, channel: str, topic: str, context: Context, targets: Sequence[str], *,
            wants_replies: bool, workflow: Workflow | None = None) -> tuple[Fan, Context]:
        """A stream of objects to these cells, and its context on this side.

        Raises:
            OptionError: targets or context are not what they must be.
            Cancelled: the workflow is over.
        """
        names = [parse(each) for each in targets] if isinstance(targets, (list, tuple)) else []
        if not names or len(set(names)) != len(names):
            raise OptionError(name="targets", value=f"{targets!r:.200}", allowed="a list of names of cells, each once")
        if not isinstance(context, dict):
            raise OptionError(name="context", value=type(context).__name__, allowed="a dict")
        check_names(channel, topic)
        if workflow is not None:
            workflow.carried(())
        sent, scope = self.packer.pack({name: value for name, value in context.items() if name not in LOCAL_KEYS}, names, workflow)
        context |= {StreamContextKey.CHANNEL: channel, StreamContextKey.TOPIC: topic,
                    StreamContextKey.ORIGIN: self._fqcn, StreamContextKey.WORKFLOW: workflow}

        outbox = Outbox(self._cell)

        def open_flow(target: str, replied: Replied) -> Outflow:
            """To one of them."""
            return self.outflow(OBJECTS, (channel, topic, target), outbox, context=sent, replied=replied, workflow=workflow)

        fan = Fan(names, open_flow, outbox, self.packer, Lag.of(self._options), wants_replies=wants_replies,
                  workflow=workflow)
        if scope is not None and not fan.live:  # nobody has the context
            scope.undeliverable()
        return fan, context


def _nothing() -> None:
    """There is nothing to end before the cell was started."""
