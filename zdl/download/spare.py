"""Spare: memory for chunks on their way to a disk, used again and again.

Fresh memory costs a page fault per 4 KiB, 0.4 ms for a chunk of 1 MiB (1.5 us each), which is more than its way over the
wire takes.
"""

from __future__ import annotations

from collections import deque

# Chunks that are kept for others: as many as a window of 64 MiB has of the usual size.
KEPT_MAX = 64


class Spare:
    """Memory that is lent for one chunk at a time.

    Threads: all methods from any thread.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[memoryview] = deque(maxlen=KEPT_MAX)

    def take(self, length: int) -> memoryview:
        """Memory of this length; what is in it is undefined."""
        try:
            kept = self._kept.pop()
        except IndexError:
            return memoryview(bytearray(length))
        return kept if kept.nbytes == length else memoryview(bytearray(length))

    def give_back(self, view: memoryview) -> None:
        """It is not used any more."""
        self._kept.append(view)
