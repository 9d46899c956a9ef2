"""Workflows: those that one cell has made or is part of, and the end of those whose time is over; see `zdl.cell.workflow`."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.handlers import Raised, guarded
from zdl.cell.workflow import ID_BYTES, LATE, Workflow, read_mark
from zdl.errors import Busy, Closed, OptionError, ZdlError
from zdl.options import CallOptions

_LOG = logging.getLogger("zdl.cell")
ENDED_TOPIC = "workflow-ended"
Tell = Callable[[Sequence[str], Mapping[str, object]], object]


class Workflows:
    """The workflows that one cell has made or is part of.

    Threads: all methods from any thread. One of its own, from the first workflow on, ends those whose time is over.
    Lifetime: a service of its cell; when that closes, those that are left end here.

    Args:
        fqcn: the cell.
        options: limits.
        tell: sends a notice of an end to cells.
    """

    def __init__(self, fqcn: str, options: CallOptions, tell: Tell) -> None:
        self._fqcn = fqcn
        self._options = options
        self._tell = tell
        self._changed = threading.Condition()  # guards the four below
        self._open: dict[bytes, Workflow] = {}
        self._over: OrderedDict[bytes, str] = OrderedDict()  # so that a late message does not begin one anew
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Workflows of {self._fqcn}: {len(self._open)} open>"

    def __len__(self) -> int:
        return len(self._open)

    def make(self, ttl_s: float) -> Workflow:
        """A new one.

        Raises:
            OptionError: it cannot last so long.
            Busy: ``workflows_max`` are open.
            Closed: the cell is closed.
        """
        ttl_max_s = self._options.workflow_ttl_max_s
        if not 0 < ttl_s <= ttl_max_s:
            raise OptionError(name="ttl_s", value=str(ttl_s), allowed=f"seconds above 0 and up to workflow_ttl_max_s={ttl_max_s:g}")
        return self._add(os.urandom(ID_BYTES), time.monotonic() + ttl_s)

    def joined(self, mark: object, arrived_at: float) -> Workflow:
        """The one that a message belongs to.

        Args:
            mark: what its header says.
            arrived_at: when it came, on the monotonic clock.

        Raises:
            DecodeError: it is no such header.
            Busy, Closed: as `make`.
        """
        number, ttl_s = self._read(mark)
        deadline = arrived_at + ttl_s
        known = self._open.get(number)
        if known is not None:
            if deadline < known.deadline:
                known.hurry(deadline)
                self._look()
            return known
        with self._changed:
            why = self._over.get(number)
        if why is None and ttl_s > 0:
            return self._add(number, deadline)
        ended = Workflow(number, deadline, self._ended)
        ended.stop(why or LATE)
        ended.ended.trigger(why or LATE)
        return ended

    def lease_s(self, mark: object) -> float:
        """How long a message that carries this has left.

        Raises:
            DecodeError: it is no such header.
        """
        return self._read(mark)[1]

    def told(self, number: object, why: object) -> None:
        """Another cell says that this one is over; what is not known here is remembered."""
        if not isinstance(number, bytes) or len(number) != ID_BYTES or not isinstance(why, str):
            return
        known = self._open.get(number)
        if known is not None:
            known.end(why)
            return
        with self._changed:
            self._remember(number, why)

    def close(self, timeout_s: float) -> list[str]:
        """Those that are left end, at this cell."""
        with self._changed:
            self._is_closed = True
            left, self._open = list(self._open.values()), {}
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        for workflow in left:
            self._trigger(workflow, "the cell closes")
        if thread is None or thread is threading.current_thread():
            return []
        thread.join(timeout_s)
        return ["a callback of a workflow's end is still running"] if thread.is_alive() else []

    # --- inside ---------------------------------------------------------------------------------

    def _read(self, mark: object) -> tuple[bytes, float]:
        """The id, and how long it has left, which others say: so it is bounded here."""
        number, ttl_s = read_mark(mark)
        return number, min(max(ttl_s, 0.0), self._options.workflow_ttl_max_s)

    def _add(self, number: bytes, deadline: float) -> Workflow:
        with self._changed:
            if self._is_closed:
                raise Closed(fqcn=self._fqcn)
            known = self._open.get(number)
            if known is not None:  # another message of it came at the same time
                return known
            if len(self._open) >= self._options.workflows_max:
                raise Busy(limit="workflows_max", value=self._options.workflows_max, at=self._fqcn)
            made = self._open[number] = Workflow(number, deadline, self._ended)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name=f"zdl-workflow-{self._fqcn}", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return made

    def _look(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _ended(self, workflow: Workflow, why: str) -> None:
        number = bytes.fromhex(workflow.id)
        with self._changed:
            if self._open.pop(number, None) is not workflow:
                return
            self._remember(number, why)
        self._trigger(workflow, why)

    def _remember(self, number: bytes, why: str) -> None:
        """With the lock."""
        self._over[number] = why
        while len(self._over) > self._options.workflows_max:
            self._over.popitem(last=False)

    def _trigger(self, workflow: Workflow, why: str) -> None:
        """Those elsewhere hear of it, then those who wait here: users' code keeps nobody from being told."""
        targets = workflow.stop(why)
        if targets and not self._is_closed:
            try:
                self._tell(targets, {"id": bytes.fromhex(workflow.id), "why": why})
            except ZdlError as error:
                _LOG.debug("! %s: the end of %r is not told: %s", self._fqcn, workflow, error)
        raised = guarded(lambda: workflow.ended.trigger(why))
        if isinstance(raised, Raised):
            _LOG.warning("! a callback of the end of %r raised %s: %s", workflow, raised.kind, raised.text)

    def _watch(self) -> None:
        """Ends those whose time is over."""
        while True:
            with self._changed:
                now = time.monotonic()
                due = [each for each in self._open.values() if each.deadline <= now]
                if self._is_closed:
                    return
                if not due:
                    first = min((each.deadline for each in self._open.values()), default=None)
                    self._changed.wait(None if first is None else first - now)
                    continue
            for workflow in due:
                workflow.end(LATE)
