"""Signal: something that can be triggered once, by anybody, and ends the waits that were given it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack


class Signal:
    """An abort signal; also triggered when its parent is.

    Threads: all methods from any thread. Callbacks run in the thread that triggers, outside any lock.

    Args:
        parent: a signal whose triggering triggers this one too.
    """

    def __init__(self, parent: Signal | None = None) -> None:
        self._lock = threading.Lock()  # guards the three below
        self._is_triggered = False
        self._value: object = None
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next_key = 0
        self._unlink = None if parent is None else parent.on_trigger(lambda: self.trigger(parent.value))

    def __repr__(self) -> str:
        return f"<Signal {f'triggered with {self._value!r}' if self._is_triggered else 'waiting'}>"

    @property
    def is_triggered(self) -> bool:
        """Whether it has been triggered."""
        return self._is_triggered

    @property
    def value(self) -> object:
        """What it was triggered with; None before."""
        return self._value

    def trigger(self, value: object = True) -> None:
        """Trigger it, once; later calls change nothing.

        All callbacks are called, whatever one of them raises; the last error is raised then.
        """
        with self._lock:
            if self._is_triggered:
                return
            self._is_triggered, self._value = True, value
            callbacks, self._callbacks = list(self._callbacks.values()), {}
        with ExitStack() as stack:
            for callback in reversed(callbacks):
                stack.callback(callback)

    def on_trigger(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when triggered, at once if it has been. Returns what takes the wish back."""
        with self._lock:
            if not self._is_triggered:
                key = self._next_key
                self._next_key += 1
                self._callbacks[key] = callback
                return lambda: self._forget(key)
        callback()
        return lambda: None

    def _forget(self, key: int) -> None:
        with self._lock:
            self._callbacks.pop(key, None)
