"""Items: many small things of a stream in one message, and out of it again.

::

    body of ITEMS      frame 0    index: one position per item: its bytes, a list of the bytes of its parts, or how many of the
                                  frames behind are its parts
                       frame 1…   parts of items that are large, as they are

A small item stands in the index itself: a frame of its own costs 2.5 us at each end, a copy of 1 KiB a tenth of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgpack

from zdl.errors import DecodeError
from zdl.protocol.messages import Body, Part

# Up to here an item is copied into the index: so whatever waits for several receivers is in frames that are large enough not to be
# copied for each of them. To pack and unpack two items of 40 KB costs 4 us, as much as two frames of their own.
INLINE_BYTES_MAX = 64 * 1024
# What one message gathers of small items; larger ones make a message of their own. Measured, objects of 1 KiB: 64 KiB and
# more are alike.
BATCH_BYTES = 64 * 1024
BATCH_ITEMS_MAX = 1024
# The index of one message: twice what is gathered (see `zdl.protocol.backlog`), and again as much.
INDEX_BYTES_MAX = 256 * 1024
PARTS_MAX = 2048


def size_of(parts: Body) -> int:
    """The bytes of an item."""
    if len(parts) == 1 and type(parts[0]) is bytes:  # most small ones
        return len(parts[0])
    return sum(len(part) if type(part) is bytes else memoryview(part).nbytes for part in parts)


def gather(items: Iterable[Body]) -> Body:
    """The body that carries these items."""
    index: list[object] = []
    frames: list[Part] = []
    for parts in items:
        if len(parts) == 1 and type(parts[0]) is bytes and len(parts[0]) <= INLINE_BYTES_MAX:
            index.append(parts[0])
        elif 1 < len(parts) <= BATCH_ITEMS_MAX and size_of(parts) <= INLINE_BYTES_MAX:
            index.append(parts)
        else:
            index.append(len(parts))
            frames += parts
    return (msgpack.packb(index), *frames)


def scatter(body: Body) -> Sequence[Body]:
    """The items of a body.

    Raises:
        DecodeError: it is none; `what` says why.
    """
    if not body:
        return ()
    index = body[0]
    if memoryview(index).nbytes > INDEX_BYTES_MAX:
        raise DecodeError(what=f"the index of the items is over INDEX_BYTES_MAX={INDEX_BYTES_MAX}")
    try:
        positions = msgpack.unpackb(index, max_ext_len=0, max_map_len=0, max_array_len=BATCH_ITEMS_MAX)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(what=f"the index of the items is not msgpack: {type(error).__name__}") from error
    if type(positions) is not list:
        raise DecodeError(what="the index of the items is not a list")
    items: list[Body] = []
    at = 1
    for each in positions:
        if type(each) is bytes:
            items.append((each,))
        elif type(each) is list and all(type(part) is bytes for part in each):
            items.append(tuple(each))
        elif type(each) is int and 0 <= each <= len(body) - at:
            items.append(body[at:at + each])
            at += each
        else:
            raise DecodeError(what="the index of the items has a position that is neither bytes nor a number of frames")
    if at != len(body):
        raise DecodeError(what=f"{len(body) - at} frames belong to no item")
    return items
