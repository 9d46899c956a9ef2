"""Pending: messages of this cell that wait for the parent, who should be there and is not yet.

Each waits at most as long as somebody waits for its answer. A request that is cancelled meanwhile does not leave at all.
"""

from __future__ import annotations

from dataclasses import replace

from zdl.protocol.messages import Cancel, Request, Routed

WAITING_MAX = 4096
# How long a message without a timeout of its own waits.
WAIT_S = 30.0


class Pending:
    """The messages of one lane that wait, the oldest first."""

    def __init__(self) -> None:
        self._messages: list[tuple[float, Routed]] = []

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_full(self) -> bool:
        """Whether no further message may wait."""
        return len(self._messages) >= WAITING_MAX

    def add(self, message: Routed, now: float) -> None:
        """A message has to wait."""
        if isinstance(message, Cancel):
            for each in self._messages:
                request = each[1]
                if isinstance(request, Request) and (request.id, request.target) == (message.id, message.target):
                    self._messages.remove(each)  # neither has to leave
                    return
        most = message.timeout_s if isinstance(message, Request) and message.timeout_s is not None else WAIT_S
        self._messages.append((now + most, message))

    def released(self, now: float) -> list[Routed]:
        """The parent is there: all of them, in their order; a request says how much of its time is left."""
        messages, self._messages = self._messages, []
        return [replace(message, timeout_s=max(until - now, 0.0)) if isinstance(
            message, Request) and message.timeout_s is not None else message for until, message in messages]

    def expired(self, now: float) -> list[Routed]:
        """Those for whose answer nobody waits any more."""
        late = [message for until, message in self._messages if until <= now]
        if late:
            self._messages = [(until, message) for until, message in self._messages if until > now]
        return late

    def deadline(self) -> float | None:
        """When the first one expires."""
        return min((until for until, _ in self._messages), default=None)

    def clear(self) -> None:
        """The cell closes."""
        self._messages.clear()
