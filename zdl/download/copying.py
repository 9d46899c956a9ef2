"""Copying: a file that is lent on this host is read from where it lies, as `cp` does, instead of over a wire.

::

    receiver                                             origin
       │ puts a random token into a file of its memory
       │── request zdl/open-file: ref, process, file ───────▶│ is the secret right, may he have it?
       │                                                     │ reads the token out of that process
       │◀── reply: the token, process, file, where in it ────│
       │ is it the token? is that file the one in the ref?
       │ then reads it

Two processes that can read each other's open files are on one host, and are one user, or the origin is the superuser: the
kernel asks for no less. The token shows that before the receiver opens anything; so a cell that is elsewhere, or somebody
else's, cannot have it take a file of its own for what was lent. The origin opens nothing either but a file of memory that
was made for this and says so by its name. That it is the right file, and has not changed, is seen by its stamp (device,
inode, size and times), which is part of the ref: before the first byte is read, and after the last.

Nothing is hashed: no byte leaves the kernel's hands but through this process. Where anything of this is not so, or an option
forbids it, the file comes as all others do, and nobody hears of it.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest
from typing import Protocol, runtime_checkable

from zdl.cell.cell import BareCell
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.download.copied import CopiedSink, Kept
from zdl.download.files import Stamp
from zdl.download.puller import CHANNEL, Sink
from zdl.errors import ZdlError
from zdl.protocol.messages import Keep
from zdl.refs import Ref

OPEN_FILE_TOPIC = "open-file"
# Smaller files come over the wire before the question is answered: 0.3 ms, in which it carries about a chunk.
COPIED_BYTES_MIN = 4 << 20
# A copy takes one of the broker's threads (`zdl.download.lending.THREADS_MAX`) as long as it lasts; the others are for the wire.
COPIES_MAX = 2
# Who is on this host answers at once; for who does not it is not worth waiting.
ANSWER_S = 1.0
TOKEN_BYTES = 32
TOKEN_NAME = "zdl-same-host"
# What the kernel calls such a file.
_TOKEN_LINK = f"/memfd:{TOKEN_NAME} (deleted)"


class _Sinking(Sink, Kept, Protocol):
    """What this can copy to."""


@runtime_checkable
class InFile(Protocol):
    """What is lent, and lies in a file."""

    def opened(self, offset: int, length: int) -> tuple[int, int] | None:
        """A descriptor, and where in its file these bytes of the stream begin; None when they do not lie there in one piece."""


class Copier:
    """The copying side of a cell, as receiver and as origin.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: asks, and answers there.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._room = threading.BoundedSemaphore(COPIES_MAX)
        cell.handler(CHANNEL, OPEN_FILE_TOPIC, resolve=False)(self._answer)

    @contextmanager
    def landing(self, ref: Ref, kept: _Sinking, abort: Signal | None = None) -> Iterator[Sink]:
        """Where a pull of this ref shall land: in what copies it, where that can be; else in `kept` itself.

        Args:
            ref: what is pulled.
            kept: takes it to a disk.
            abort: ends the question.
        """
        options = self._cell.options.pulls
        is_worth_it = ref.kind == "file" and ref.stamp and sum(length for _, length in kept.ranges) >= COPIED_BYTES_MIN
        if not is_worth_it or not options.direct or options.verify != "auto" or not self._room.acquire(blocking=False):
            yield kept
            return
        try:
            found = self._open(ref, abort)
            if found is None:
                yield kept
                return
            copied = CopiedSink(ref, kept, *found)
            try:
                yield copied
            finally:
                copied.close()
        finally:
            self._room.release()

    # --- inside ---------------------------------------------------------------------------------

    def _open(self, ref: Ref, abort: Signal | None) -> tuple[int, int] | None:
        """The lent file, open here, and where in it the ref begins; None where it cannot be had."""
        token = secrets.token_bytes(TOKEN_BYTES)
        try:
            own = os.memfd_create(TOKEN_NAME, os.MFD_CLOEXEC)
        except OSError:  # no more descriptors, or a system call that is not allowed: then the file comes over the wire
            return None
        try:
            os.write(own, token)
            answer = self._cell.request(ref.origin, CHANNEL, OPEN_FILE_TOPIC, [ref, os.getpid(), own],
                                        timeout_s=ANSWER_S, abort=abort).body
        except (ZdlError, OSError):  # what is wrong with the origin the pull will say
            return None
        finally:
            os.close(own)
        match answer:
            case [bytes(said), int(process), int(number), int(place)] if compare_digest(said, token):
                return _checked(f"/proc/{process}/fd/{number}", ref, place)
        return None

    def _answer(self, request: Request) -> object:
        """What is asked for: token, process, descriptor and place; or nothing."""
        match request.body:
            case [Ref() as ref, int(process), int(number)] if ref.kind == "file" and ref.origin == self._cell.fqcn:
                keep = Keep(request.origin, self._cell.fqcn, 0, ref.source.offer_id, ref.source.secret)
                with suppress(ZdlError, OSError):
                    readable = self._cell.lane.lent.readable(keep)
                    found = readable.opened(ref.offset, ref.length) if isinstance(readable, InFile) else None
                    return [] if found is None else [_token_of(process, number), os.getpid(), *found]
        return []


def _token_of(process: int, number: int) -> bytes:
    """What a receiver has put into a file of its memory.

    Raises:
        OSError: there is no such process here, or it may not be looked into, or that is no such file.
    """
    path = f"/proc/{process}/fd/{number}"
    if os.readlink(path) != _TOKEN_LINK:
        raise FileNotFoundError(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # Between the two it may have become another file: what is read must have been made for this.
        if os.readlink(f"/proc/self/fd/{descriptor}") != _TOKEN_LINK:
            raise FileNotFoundError(path)
        return os.pread(descriptor, TOKEN_BYTES, 0)
    finally:
        os.close(descriptor)


def _checked(path: str, ref: Ref, place: int) -> tuple[int, int] | None:
    """The file of an origin, opened, if it is the one that the ref names."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    stamp = Stamp.of(os.fstat(descriptor))
    if stamp.digest == ref.stamp and 0 <= place <= stamp.size - ref.length:
        return descriptor, place
    os.close(descriptor)
    return None
