"""Backlog: the items of one stream that its receivers do not all have: held once, however many receivers there are.

::

    items ──▶ open block ──it is full, or all have got it──▶ closed block ──▶ the receivers, each at its own pace

A closed block goes to every receiver as the very same buffers: its small items are gathered once, and then stand there as one
run of bytes, not as objects. A receiver that has nothing on its way and no credit for all of a block, or was sent a part of it when
that was all there was, gets the items that it lacks in a body of its own. A block is let go when no receiver's queue has it any
more; where its items end is remembered until they are consumed, for credit is counted in bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from zdl.protocol.items import BATCH_BYTES, BATCH_ITEMS_MAX, PARTS_MAX, gather, scatter, size_of
from zdl.protocol.messages import Body

# What the book-keeping of one item takes at the receiver, so that a window of empty ones is bounded too.
ITEM_OVERHEAD_BYTES = 64
# An item joins others in a block up to here: one that goes into the index always fits into a block that is not full. So full blocks
# of such items are one frame of `BATCH_BYTES` and more, and an index stays far below `INDEX_BYTES_MAX`.
BLOCK_BYTES_MAX = 2 * BATCH_BYTES


@dataclass(slots=True)
class Marks:
    """Where the items of a block end: in bytes since the beginning of the stream, each item with its overhead.

    Attributes:
        first: the number of the first of them.
        begin: where it begins.
        timeout_s: within which each of them shall be consumed once all before it are.
        ends: where each ends.
        is_closed: no more will come to them.
    """

    first: int
    begin: int
    timeout_s: float
    ends: array[int] = field(default_factory=lambda: array("Q"))
    is_closed: bool = False

    @property
    def after(self) -> int:
        """The number of the first item behind them."""
        return self.first + len(self.ends)

    def end_of(self, count: int) -> int:
        """Where so many of them end."""
        return self.ends[count - 1] if count else self.begin


class Block:
    """Items one after the other, which are held together.

    Args:
        marks: where they begin.

    Attributes:
        end: where the last of them ends.
    """

    __slots__ = ("marks", "end", "_items", "_body", "_bytes", "_parts")

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.end = marks.begin
        self._items: list[Body] = []
        self._body: Body = ()
        self._bytes = 0
        self._parts = 0

    @property
    def is_full(self) -> bool:
        """Whether it makes a message as large as is of use."""
        return self._bytes >= BATCH_BYTES or len(self._items) >= BATCH_ITEMS_MAX

    def takes(self, parts: Body, size: int, timeout_s: float) -> bool:
        """Whether one more item fits in."""
        return self.marks.timeout_s == timeout_s and self._bytes + size <= BLOCK_BYTES_MAX \
            and self._parts + len(parts) <= PARTS_MAX

    def add(self, parts: Body, size: int) -> None:
        """One more item."""
        self._items.append(parts)
        self._bytes += size
        self._parts += len(parts)
        self.end += size + ITEM_OVERHEAD_BYTES
        self.marks.ends.append(self.end)

    def gather(self) -> Body:
        """The body that carries all of them; from now on they are held as that."""
        if not self._body:
            self._body, self._items = gather(self._items), []
        return self._body

    def body(self, first: int, after: int) -> Body:
        """The body that carries the items from `first` on up to `after`."""
        marks = self.marks
        if marks.is_closed and first == marks.first and after == marks.after:
            return self.gather()
        items: Sequence[Body] = self._items or scatter(self._body)
        return gather(items[first - marks.first:after - marks.first])


class Queue:
    """What one receiver has still to get of a backlog, and to consume.

    Args:
        push_id: of the push to it.

    Attributes:
        pushed: how many items there are for it.
        sent: how many of them were sent to it; those behind that are sent next.
        bytes_consumed: what those have that it is done with, each with its overhead.
    """

    __slots__ = ("push_id", "pushed", "sent", "bytes_consumed", "blocks", "marks")

    def __init__(self, push_id: int) -> None:
        self.push_id = push_id
        self.pushed = 0
        self.sent = 0
        self.bytes_consumed = 0
        self.blocks: deque[Block] = deque()
        self.marks: deque[Marks] = deque()

    def check(self, received: int, consumed: int) -> None:
        """All invariants; for simulation."""
        for queue, done in (([block.marks for block in self.blocks], received), (list(self.marks), consumed)):
            assert all(one.is_closed and one.after == other.first for one, other in zip(queue, queue[1:]))
            assert queue[0].first <= done and queue[-1].after == self.pushed if queue else done == self.pushed

    def timeout_s(self, number: int) -> float:
        """Of this item, which is not consumed."""
        return next(marks.timeout_s for marks in self.marks if marks.after > number)

    def next_block(self) -> Block:
        """The one that has the next item to be sent."""
        return self.blocks[bisect_right(self.blocks, self.sent, key=_after)]

    def received(self, number: int) -> None:
        """The items below this are there: they need not be held for this receiver."""
        while self.blocks and self.blocks[0].marks.is_closed and self.blocks[0].marks.after <= number:
            self.blocks.popleft()

    def consumed(self, number: int) -> None:
        """The items below this, of which some were not, are done with."""
        marks = self.marks[0]
        while marks.after < number:
            self.marks.popleft()
            marks = self.marks[0]
        self.bytes_consumed = marks.end_of(number - marks.first)
        if marks.is_closed and marks.after == number:
            self.marks.popleft()


class Backlog:
    """The items of one stream, for its receivers, who all begin with it.

    Threads: one at a time: the lane.
    """

    def __init__(self) -> None:
        self._queues: list[Queue] = []
        self._open: Block | None = None
        self._count = 0
        self._end = 0

    @property
    def end(self) -> int:
        """Where the last item ends: in bytes since the beginning."""
        return self._end if self._open is None else self._open.end

    def push_ids(self) -> list[int]:
        """Of all its receivers."""
        return [queue.push_id for queue in self._queues]

    def bytes_consumed(self) -> list[int]:
        """By each of its receivers."""
        return [queue.bytes_consumed for queue in self._queues]

    def join(self, push_id: int) -> Queue:
        """One more receiver; before there is any item."""
        assert self._count == 0, "a receiver joins a stream that has begun"
        queue = Queue(push_id)
        self._queues.append(queue)
        return queue

    def leave(self, queue: Queue) -> None:
        """What comes from now on is not for this one."""
        if queue in self._queues:
            self._queues.remove(queue)
            self.close()

    def add(self, items: Iterable[tuple[Body, float]]) -> None:
        """Further items, for all; each with its timeout."""
        if not self._is_wanted():
            self.close()
        for parts, timeout_s in items:
            size = size_of(parts)
            block = self._open
            if block is None or not block.takes(parts, size, timeout_s):
                self.close()
                block = self._begin(timeout_s)
            block.add(parts, size)
            self._count += 1
            if block.is_full:
                self.close()
        for queue in self._queues:
            queue.pushed = self._count

    def close(self) -> None:
        """No more items come to the open block; those who do not have all of it yet get the same buffers."""
        block, self._open = self._open, None
        if block is not None:
            block.marks.is_closed = True
            self._end = block.end
            if self._is_wanted():
                block.gather()

    def is_shared(self, block: Block) -> bool:
        """Whether further items may come to it, for several receivers."""
        return block is self._open and len(self._queues) > 1

    # --- inside ---------------------------------------------------------------------------------

    def _is_wanted(self) -> bool:
        """Whether anything was not sent to somebody."""
        return any(queue.sent < self._count for queue in self._queues)

    def _begin(self, timeout_s: float) -> Block:
        block = self._open = Block(Marks(self._count, self._end, timeout_s))
        for queue in self._queues:
            queue.blocks.append(block)
            queue.marks.append(block.marks)
        return block


def _after(block: Block) -> int:
    return block.marks.after
