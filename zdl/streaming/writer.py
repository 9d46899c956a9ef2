"""Writer: a stream of bytes to one cell, as a file that is written; and a blob, which is all of it at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from zdl.cell.handlers import Raised, guarded
from zdl.errors import Cancelled, Closed, LocalProtocolError, StreamError, TimedOut, ZdlError
from zdl.streaming.feeding import Feeding
from zdl.streaming.outflow import Outflow, wait_for
from zdl.streaming.packer import Packer

Bytes = bytes | bytearray | memoryview
# One piece on the wire: it stays in the cache; see the measurements of `PullOptions.chunk_bytes`.
PIECE_BYTES = 1024 * 1024


def pieces(data: Bytes) -> list[bytes | memoryview]:
    """The bytes in pieces. What may still change is copied; `bytes`, and views of them, are not."""
    view = memoryview(data)
    if view.nbytes == 0:
        return []
    if not view.c_contiguous:
        view = memoryview(view.tobytes())
    if not isinstance(view.obj, bytes):
        view = memoryview(view.tobytes())
    if view.nbytes <= PIECE_BYTES:
        return [view.tobytes() if view.nbytes < 16384 else view.cast("B")]
    flat = view.cast("B")
    return [flat[at:at + PIECE_BYTES] for at in range(0, view.nbytes, PIECE_BYTES)]


class StreamWriter(Feeding):
    """A stream of bytes to one cell: a file that only grows.

    As a context manager it ends normally when the block does, and waits until the receiver has finished; when the block
    raises, the receiver hears that the stream was broken off.

    Threads: all methods from any thread but the loops'; writes of several threads are not interleaved within one write.

    Args:
        outflow: where the bytes go.
        packer: unpacks the receiver's result.
        bytes_total: how many there will be; 0: that is not known.
    """

    def __init__(self, outflow: Outflow, changed: threading.Condition, packer: Packer, bytes_total: int) -> None:
        self._outflow = outflow
        self._changed = changed
        self._packer = packer
        self._lock = threading.Lock()  # guards the order of pieces, and the result
        self._bytes_total = bytes_total
        self._bytes_written = 0
        self._is_finished = False
        self._result: object = None
        self._has_result = False

    def __repr__(self) -> str:
        return f"<StreamWriter to {self._outflow.target}: {self._bytes_written} bytes written, {self._outflow!r}>"

    @property
    def bytes_written(self) -> int:
        """Handed over so far."""
        return self._bytes_written

    @property
    def bytes_consumed(self) -> int:
        """What the receiver has read so far, at least."""
        return self._outflow.bytes_consumed - 64 * self._outflow.consumed

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._outflow.has_ended

    def write(self, data: Bytes) -> int:
        """Send bytes; waits while the receiver is a window behind.

        Raises:
            StreamError, PeerLost, TimedOut, RemoteError, …: the stream has ended, with what it ended with.
            LocalProtocolError: it was closed, or is longer than was declared.
        """
        size = memoryview(data).nbytes
        with self._lock:
            if self._is_finished:
                raise LocalProtocolError(what="the stream was closed: nothing more can be written")
            if self._bytes_total and self._bytes_written + size > self._bytes_total:
                raise LocalProtocolError(what=f"{self._bytes_written + size} bytes are more than the {self._bytes_total} declared")
            for piece in pieces(data):
                self._wait_room()
                self._outflow.put((piece,))
                self._bytes_written += len(piece)
        return size

    def finish(self) -> None:
        """No more bytes: the normal end. Returns at once; see `result`."""
        with self._lock:
            if self._is_finished:
                return
            self._is_finished = True
        if self._bytes_total and self._bytes_written != self._bytes_total and not self._outflow.has_ended:
            self._outflow.fail(StreamError(what=f"{self._bytes_written} of {self._bytes_total} bytes were written"))
        else:
            self._outflow.finish()

    def result(self, timeout_s: float | None = None) -> object:
        """What the receiver's callback returned, when it has.

        Raises:
            TimedOut: it has not yet; the stream goes on.
            RemoteError: it raised.
            StreamError, PeerLost, TimedOut, Cancelled, …: how else the stream has ended.
        """
        wait_for(self._changed, lambda: self._outflow.has_ended, timeout_s, f"the end of {self._outflow.opening}",
                 self._outflow.target)
        if self._outflow.error is not None:
            raise self._outflow.error
        with self._lock:
            if not self._has_result and self._outflow.result:  # what it refers to can be pulled once
                self._result = self._packer.resolve(self._packer.unpack(self._outflow.result))
            self._has_result = True
        return self._result

    def close(self, timeout_s: float | None = None) -> None:
        """End normally, and wait until the receiver has finished; see `result` for what it raises."""
        self.finish()
        self.result(timeout_s)

    def cancel(self, why: str = "no longer wanted") -> None:
        """Break off; the receiver is told."""
        self._is_finished = True
        self._outflow.cancel(why)

    def _wait_room(self) -> None:
        outflow = self._outflow
        with self._changed:
            is_ready = outflow.has_room
        if not is_ready:
            wait_for(self._changed, lambda: outflow.has_room, None, "room", outflow.target)
        if outflow.has_ended:
            raise outflow.error or StreamError(what=f"{outflow.opening} was ended by {outflow.target}: it wants no more")


Done = Callable[["BlobHandle"], None]


class BlobHandle:
    """A blob on its way: what of it has been consumed, and its end, as a future has it.

    Threads: all methods from any thread; callbacks run on the threads of the cell's streams.

    Args:
        target: to whom.
        bytes_total: its size.
        run: has a job run.
    """

    def __init__(self, target: str, bytes_total: int, run: Callable[[Callable[[], None]], None]) -> None:
        self.target = target
        self.bytes_total = bytes_total
        self._run = run
        self._changed = threading.Condition()  # guards the rest
        self._writer: StreamWriter | None = None
        self._is_done = False
        self._cancelled_why = ""
        self._result: object = None
        self._error: ZdlError | None = None
        self._callbacks: list[Done] = []

    def __repr__(self) -> str:
        state = "on its way" if not self._is_done else "done" if self._error is None else f"failed: {self._error}"
        return f"<BlobHandle to {self.target}: {self.progress} of {self.bytes_total} bytes, {state}>"

    @property
    def progress(self) -> int:
        """Bytes that the receiver has taken in."""
        writer = self._writer
        return 0 if writer is None else self.bytes_total if self._is_done and self._error is None else writer.bytes_consumed

    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._is_done

    def running(self) -> bool:
        """Whether it has not."""
        return not self._is_done

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return isinstance(self._error, Cancelled)

    def cancel(self, why: str = "no longer wanted") -> bool:
        """Break off. Returns False when it has ended already."""
        with self._changed:
            if self._is_done:
                return False
            self._cancelled_why = why
            writer = self._writer
        if writer is not None:
            writer.cancel(why)
        return True

    def result(self, timeout_s: float | None = None) -> object:
        """What the receiver's callback returned.

        Raises:
            TimedOut: it has not yet; the blob is still on its way.
            RemoteError: it raised.
            TooLarge, Refused, PeerLost, Cancelled, …: how else it has ended.
        """
        error = self.exception(timeout_s)
        if error is not None:
            raise error
        return self._result

    def exception(self, timeout_s: float | None = None) -> ZdlError | None:
        """What it has failed with, when it has ended; None for success."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._is_done:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimedOut(what="the end of the blob", address=self.target, waited_s=timeout_s or 0.0)
                self._changed.wait(left)
        return self._error

    def add_done_callback(self, function: Done) -> None:
        """Have the function called with this handle when it has ended; now, if it has."""
        with self._changed:
            if not self._is_done:
                self._callbacks.append(function)
                return
        self._call(function)

    # --- for the service --------------------------------------------------------------------------

    def send(self, open_writer: Callable[[], StreamWriter], payload: list[Bytes]) -> None:
        """On a thread of the streams': all of it, to the end."""
        try:
            writer = open_writer()
            with self._changed:
                self._writer = writer
                why = self._cancelled_why
            if why:
                writer.cancel(why)
            else:
                for part in payload:
                    writer.write(part)
                writer.finish()
            self.settle(writer.result(), None)
        except ZdlError as error:
            self.settle(None, error)

    def settle(self, result: object, error: ZdlError | None) -> None:
        """It has ended; the first end counts."""
        with self._changed:
            if self._is_done:
                return
            self._is_done, self._result, self._error = True, result, error
            self._changed.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for function in callbacks:
            self._call(function)

    def _call(self, function: Done) -> None:
        def call() -> None:
            """On a thread of the streams'."""
            raised = guarded(lambda: function(self))
            if isinstance(raised, Raised):
                raise raised.error

        try:
            self._run(call)
        except Closed:
            guarded(lambda: function(self))
