"""Kept: the last answers of a cell, for requests that come a second time.

Bounded in number and in bytes. A single answer that would take more than a hundredth of all the room is not kept: it would
push out a hundred others, and the request it belongs to is answered once, as far as the first answer arrives. What an
answer lends is kept too, since it travels as references.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from zdl.protocol.messages import Reply

SHARE = 100


class Kept:
    """The answers of one cell, by caller and id; the oldest are forgotten.

    Args:
        count_max: answers.
        bytes_max: of their bodies in all.
    """

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._one_bytes_max = bytes_max // SHARE
        # Ordered: of a dict that loses its first key again and again, the next first one is found by walking over all that it lost.
        self._answers: OrderedDict[tuple[str, int], tuple[Reply, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def keep(self, reply: Reply) -> None:
        """This answer has been given."""
        body = reply.body
        first = body[0] if len(body) == 1 else None
        size = len(first) if type(first) is bytes else sum(memoryview(part).nbytes for part in body)
        if size > self._one_bytes_max:
            return
        if len(body) > 1:  # frames beside the first are the user's own memory, which he may change and wants back
            reply = replace(reply, body=tuple(bytes(part) for part in body))
        self._answers[reply.target, reply.id] = (reply, size)
        self._bytes += size
        answers = self._answers
        while len(answers) > self._count_max or self._bytes > self._bytes_max:
            self._bytes -= answers.popitem(last=False)[1][1]

    def find(self, origin: str, number: int) -> Reply | None:
        """The answer to this request, if it is kept."""
        found = self._answers.get((origin, number))
        return None if found is None else found[0]

    def check(self) -> None:
        """All invariants; for simulation."""
        assert len(self._answers) <= self._count_max
        assert self._bytes == sum(size for _, size in self._answers.values()) <= self._bytes_max
