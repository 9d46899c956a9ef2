"""Patience: how long somebody waits for what he fetches, and whom he has told how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from zdl.cell.handlers import Raised, guarded
from zdl.cell.signal import Signal
from zdl.download.puller import Progress
from zdl.errors import Cancelled, TimedOut
from zdl.options import Pace
from zdl.refs import Source

# What is left of a timeout is at least this: what is wanted may be here already.
LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a fetch may take, and whom it tells; see `DownloadBroker.pull` and `DownloadBroker.resolve`."""

    timeout_s: float | None = None
    abort: Signal | None = None
    progress: Progress | None = None
    renew_s: float | None = None
    pace: Pace | None = None


class Patience:
    """One fetch, as long as it is waited for.

    Threads: all methods from any thread.

    Args:
        source: what is fetched, or the first of it, for errors.
        limits: as the user gave them.
        tell: is called with the bytes that are on their way without a pull; by default nobody is.
    """

    def __init__(self, source: Source, limits: Limits, tell: Callable[[int], object] = lambda done: None) -> None:
        self.limits = limits
        self._source = source
        self._tell = tell
        self._began_at = time.monotonic()
        self._until = None if limits.timeout_s is None else self._began_at + limits.timeout_s
        self._why = ""

    @property
    def abort(self) -> Signal | None:
        """Ends the wait."""
        return self.limits.abort

    def left_s(self) -> float | None:
        """What is left of the time; None without a bound."""
        return None if self._until is None else max(LEAST_S, self._until - time.monotonic())

    def renew(self) -> None:
        """Bytes are on their way: where that counts, the time begins anew."""
        if self.limits.renew_s is not None and self._until is not None:
            self._until = max(self._until, time.monotonic() + self.limits.renew_s)

    def moved(self, done: int) -> None:
        """So many bytes are on their way without a pull, or here. What whoever is told of it raises ends the wait."""
        self.renew()
        raised = guarded(lambda: self._tell(done))
        if isinstance(raised, Raised):
            self._why = f"its progress callback raised {raised.kind}: {raised.text}"

    def check(self) -> None:
        """Raises `TimedOut` or `Cancelled` when nobody waits any more."""
        now = time.monotonic()
        if self._until is not None and now >= self._until:
            raise TimedOut(what="all bytes", address=self._source.origin, waited_s=now - self._began_at)
        abort = self.limits.abort
        if abort is not None and abort.is_triggered:
            self._why = self._why or f"its signal was triggered with {abort.value!r}"
        if self._why:
            raise Cancelled(what=f"the pull of {self._source.label} from {self._source.origin}", why=self._why)

    def pauses(self, pause_s: float) -> bool:
        """Waits a little. Returns False when nobody waits for the fetch any more."""
        left_s = self.left_s()
        if left_s is not None and left_s <= pause_s:
            return False
        ended = threading.Event()
        abort = self.limits.abort
        unlink = None if abort is None else abort.on_trigger(ended.set)
        is_ended = ended.wait(pause_s)
        if unlink is not None:
            unlink()
        return not is_ended
