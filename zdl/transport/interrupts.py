"""Interrupts: Ctrl-C is put off while the main thread is inside what must not be left half done.

Python runs a signal's handler between two instructions of the main thread, whatever it is doing: a
`KeyboardInterrupt` could leave a message half sent, or a machine between two states. So for the
microseconds in which the main thread holds a loop, the handler of SIGINT only takes note, and the real
one is called right after. Other threads are never interrupted and pay nothing.

Handlers of other signals must not raise while a cell is used; setting a flag or an `Event` is fine.
"""

from __future__ import annotations

import signal
import threading

# Without the enums that `signal.signal` converts to and from: 0.24 us instead of 2.75.
from _signal import getsignal as _handler_of, signal as _set_handler  # type: ignore[import-not-found]
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object]
_SIGINT = int(signal.SIGINT)


class Interrupts:
    """Puts off Ctrl-C.

    Threads: `hold` and `let_go` in pairs, from any thread; only in the main thread do they do anything.
    """

    __slots__ = ("_main", "_has_fired")

    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._has_fired = False

    def hold(self) -> Handler | None:
        """From here on an interrupt is only noted. Returns what `let_go` wants."""
        if threading.get_ident() != self._main:
            return None
        handler: Handler | None = _handler_of(_SIGINT)
        if not callable(handler):  # nobody in Python hears of it: nothing can be raised
            return None
        _set_handler(_SIGINT, self._note)
        return handler

    def let_go(self, handler: Handler | None) -> None:
        """From here on interrupts are heard again; one that came meanwhile is heard now.

        Raises:
            KeyboardInterrupt: by the usual handler.
        """
        if handler is None:
            return
        _set_handler(_SIGINT, handler)
        if self._has_fired:
            self._has_fired = False
            handler(_SIGINT, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._has_fired = True
