"""Logs: a file that grows is followed into a stream of bytes, over rotation and truncation, until it is told to stop."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

READ_BYTES = 64 * 1024
# How often a file that did not grow is looked at again.
POLL_S = 0.5


class Target(Protocol):
    """Where the bytes go: a `StreamWriter`, or anything that is written like one."""

    def write(self, data: bytes) -> int:
        """Take these."""


def follow(path: str | os.PathLike[str], target: Target, stop: threading.Event, *, poll_s: float = POLL_S,
           from_start: bool = True) -> int:
    """Write what a file has, and what comes to it, until `stop` is set; then what came up to then, and return.

    A file that was rotated (another one has its name) is read to its end, then the new one from its beginning; one that was
    truncated is read from its beginning again; one that is not there yet, or for a while, is waited for. A log that is copied
    and then truncated between two looks loses what came in between: nobody can tell.

    Args:
        path: of the file.
        target: where its bytes go; while it is not consumed there, nothing is read here.
        stop: set by any thread.
        poll_s: how often a file that did not grow is looked at.
        from_start: whether what is there already is written too.

    Returns:
        How many bytes were written.

    Raises:
        ZdlError: the stream has ended, with what it ended with.
    """
    place = Path(path)
    written = 0
    with ExitStack() as stack:
        file: BinaryIO | None = None
        is_first = True
        while True:
            is_last = stop.is_set()  # before it is read: what came up to then is written
            if file is None and place.is_file():
                file = stack.enter_context(place.open("rb"))
                if is_first and not from_start:
                    file.seek(0, os.SEEK_END)
            is_first = False
            if file is not None:
                is_rotated = not _is_same(file, place)  # before it is read: what was written until then belongs to it
                written += _copy(file, target)
                if is_rotated:
                    file.close()
                    file = None
                    if place.is_file():
                        continue
                elif os.fstat(file.fileno()).st_size < file.tell():
                    file.seek(0)
                    continue
            if is_last:
                return written
            stop.wait(poll_s)


def _copy(file: BinaryIO, target: Target) -> int:
    copied = 0
    while piece := file.read(READ_BYTES):
        copied += target.write(piece)
    return copied


def _is_same(file: BinaryIO, place: Path) -> bool:
    """Whether the open file still has its name."""
    try:
        there = place.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file.fileno())
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
