"""Opening: how the parts of a cell are made and tied together. None of them holds the cell: see `zdl.cell.life`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zdl.cell.answering import Answerer
from zdl.cell.calling import Caller
from zdl.cell.filters import OWN_CHANNEL, Filters
from zdl.cell.futures import Sending
from zdl.cell.handlers import Handlers, Pool, Registration
from zdl.cell.life import Life
from zdl.cell.watching import Callbacks, Watching
from zdl.cell.workflows import ENDED_TOPIC, Workflows
from zdl.errors import OptionError
from zdl.fqcn import ROOT
from zdl.objects.typetable import TypeTable
from zdl.options import Options
from zdl.transport.control import Control, ControlEvents
from zdl.transport.lanes import Lanes


@dataclass(frozen=True, slots=True)
class Doors:
    """How a cell is reached and what it dials; see `BareCell` for each.

    Attributes:
        parent: address of the cell above; None for the root.
        listen: addresses of the control lane.
        data_listen: addresses of the data lane.
        is_insecure: whether other machines may be let in without keys.
        advertise: the host that others dial, where it is not the one that is bound.
    """

    parent: str | None
    listen: tuple[str, ...]
    data_listen: tuple[str, ...]
    is_insecure: bool
    advertise: str | None

    @classmethod
    def of(cls, fqcn: str, parent: str | None, listen: str | Sequence[str], data_listen: str | Sequence[str], *,
           is_insecure: bool, advertise: str | None) -> Doors:
        """The doors of this cell.

        Raises:
            OptionError: it could neither dial nor be dialled.
        """
        made = cls(parent, _several(listen), _several(data_listen), is_insecure, advertise)
        if parent is None and not made.listen and fqcn != ROOT:
            raise OptionError(name="parent", value="None", allowed=f"the address of the cell above; only {ROOT} has none")
        return made


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs for an open cell, beside what its `Life` holds.

    Attributes:
        lanes: its sockets.
        control: the desk of its control lane.
        watching: what it knows of its neighbours.
        caller: its calling side.
    """

    lanes: Lanes
    control: Control
    watching: Watching
    caller: Caller

    def start(self) -> None:
        """Start the threads of the lanes, dial the parent."""
        self.lanes.start(self.control)


def make_parts(fqcn: str, doors: Doors, options: Options, life: Life, *, handlers: Handlers, filters: Filters,
               callbacks: Callbacks, types: TypeTable) -> Parts:
    """Make the parts of a cell, and tie them together; nothing runs yet.

    Args:
        fqcn: the cell.
        doors: how it is reached.
        options: its options.
        life: gets what it has to end.
        handlers: the table.
        filters: of the cell.
        callbacks: whom its users want to be told.
        types: what may travel.

    Raises:
        OptionError: an address cannot or must not be bound.
    """
    lanes = Lanes(fqcn, parent=doors.parent, listen=doors.listen, data_listen=doors.data_listen,
                  is_insecure=doors.is_insecure, advertise=doors.advertise, options=options)
    watching = Watching(fqcn, doors.parent, lanes, callbacks)
    pool = life.pool = Pool(f"zdl-handler-{fqcn}", fqcn, options.calls, loop=lanes.control_loop)
    events = ControlEvents(
        handle=life.handle, abort=life.abort, undelivered=life.undelivered,
        peer_up=watching.peer_up, peer_down=watching.peer_down, peer_stalled=watching.peer_stalled,
        unreachable=lanes.lane.unreachable, subtree=watching.subtree,
        parent_failed=watching.parent_failed, tick=pool.tick, deadline=pool.deadline, passed_on=filters.passing_by.seen,
        is_busy=pool.is_busy)
    control = lanes.prepare(fqcn, events)
    filters.passing_by.begin(pool.submit, lanes.control_loop, options.calls.told_max)
    workflows = Workflows(fqcn, options.calls, lambda targets, body: life.spreader(options).notice(
        dict.fromkeys(targets, body), OWN_CHANNEL, ENDED_TOPIC, Sending(optional=True)))
    handlers.add(OWN_CHANNEL, ENDED_TOPIC, Registration(lambda request: _ended(workflows, request.body), False, False))
    life.services.append(workflows)
    caller = Caller(fqcn, options, control, pool, life.is_alive, workflows=workflows, types=types)
    life.answerer = Answerer(fqcn, options, handlers=handlers, pool=pool, caller=caller, control=control, filters=filters)
    life.lanes = lanes
    return Parts(lanes, control, watching, caller)


def _ended(workflows: Workflows, body: object) -> None:
    """Another cell says that a workflow is over; what it says may be anything."""
    if isinstance(body, dict):
        workflows.told(body.get("id"), body.get("why"))


def _several(addresses: str | Sequence[str]) -> tuple[str, ...]:
    return (addresses,) if isinstance(addresses, str) else tuple(addresses)
