"""Reader: a stream of bytes from another cell, as a file that is read while it comes; and a blob, which is all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from zdl.cell.workflow import Workflow
from zdl.errors import StreamError
from zdl.protocol.messages import Body
from zdl.streaming.inflow import Inflow


class StreamReader:
    """A stream of bytes from another cell. What is read is given back as credit: reading slowly holds the sender back.

    Threads: one at a time.

    Args:
        inflow: where the bytes come from.

    Attributes:
        origin: the cell that sends.
        channel: first half of its name.
        topic: second half.
        headers: the sender's own, plain values.
        bytes_total: how many there will be; 0: that is not known.
    """

    def __init__(self, inflow: Inflow) -> None:
        self._inflow = inflow
        self.origin = inflow.origin
        self.channel = inflow.channel
        self.topic = inflow.topic
        self.headers = inflow.headers
        self.bytes_total = inflow.bytes_total
        self._bytes_read = 0
        self._bytes_here = 0
        self._parts: list[memoryview] = []
        self._item: Body | None = ()

    def __repr__(self) -> str:
        return f"<StreamReader {self.channel}/{self.topic} of {self.origin}: {self._bytes_read} bytes read>"

    def __iter__(self) -> Iterator[memoryview]:
        """The pieces as they come."""
        while (piece := self._piece(1 << 62)) is not None:
            yield piece

    @property
    def workflow(self) -> Workflow | None:
        """The workflow that it belongs to; None for one of none.

        Raises:
            Busy: this cell is part of ``calls.workflows_max`` already.
        """
        return self._inflow.workflow

    @property
    def bytes_read(self) -> int:
        """So far."""
        return self._bytes_read

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, as soon as there are any; b"" at the end. Without a size: all there will be.

        Raises:
            StreamError: the sender declared another size.
            PeerLost, TimedOut, Cancelled, …: the stream has ended before its end.
        """
        if size < 0:
            return b"".join(self)
        if size == 0:
            return b""
        piece = self._piece(size)
        return b"" if piece is None else bytes(piece)

    def readinto(self, place: bytearray | memoryview) -> int:
        """Into memory that is there, as soon as there are any; 0 at the end."""
        view = memoryview(place).cast("B")
        piece = self._piece(view.nbytes) if view.nbytes else None
        if piece is None:
            return 0
        view[:piece.nbytes] = piece
        return piece.nbytes

    def _piece(self, size: int) -> memoryview | None:
        while not self._parts:
            if self._item is None:
                return None
            if self._item:
                self._inflow.consumed(self._item)
            self._item = self._inflow.take()
            if self._item is None:
                if self.bytes_total and self._bytes_here != self.bytes_total:
                    raise StreamError(what=f"{self._bytes_here} bytes came of {self.bytes_total} that were declared")
                return None
            self._parts = [memoryview(part) for part in reversed(self._item) if len(part)]
            self._bytes_here += sum(part.nbytes for part in self._parts)
            if self.bytes_total and self._bytes_here > self.bytes_total:
                raise StreamError(what=f"more bytes came than the {self.bytes_total} that were declared")
        part = self._parts.pop()
        if part.nbytes > size:
            self._parts.append(part[size:])
            part = part[:size]
        self._bytes_read += part.nbytes
        return part


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that has come, whole.

    Attributes:
        origin: the cell that sent it.
        channel: first half of its name.
        topic: second half.
        data: its bytes; the memory is the receiver's own.
        headers: the sender's own, plain values.
        workflow: what it belongs to; None for nothing.
    """

    origin: str
    channel: str
    topic: str
    data: bytearray = field(repr=False)
    headers: Mapping[str, object]
    workflow: Workflow | None = None


def read_blob(inflow: Inflow) -> Blob:
    """All of a blob, whose size was checked when it was declared.

    Raises:
        StreamError: more or fewer bytes came than were declared.
    """
    reader = StreamReader(inflow)
    data = bytearray(inflow.bytes_total)
    view = memoryview(data)
    at = 0
    for piece in reader:
        if at + piece.nbytes > len(data):
            raise StreamError(what=f"more bytes came than the {len(data)} that were declared")
        view[at:at + piece.nbytes] = piece
        at += piece.nbytes
    if at != len(data):
        raise StreamError(what=f"{at} bytes came of {len(data)} that were declared")
    return Blob(inflow.origin, inflow.channel, inflow.topic, data, inflow.headers, inflow.workflow)
