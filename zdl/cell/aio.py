"""Aio: the awaitable twins of a cell's blocking calls, for any asyncio loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.calling import DEFAULT_S, NO_HEADERS, Caller, Sending
from zdl.cell.messages import Answer, Reply
from zdl.errors import ZdlError


class Aio:
    """``cell.aio``: the same calls as on the cell, to be awaited. Cancelling the task cancels the call.

    Args:
        caller: gives the calling side of a cell that is open.
    """

    def __init__(self, caller: Callable[[], Caller]) -> None:
        self._caller = caller

    async def request(self, target: str, channel: str, topic: str, body: object = None, *,
                      timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                      resolve: bool = True, receivers: Sequence[str] | int = 1) -> Reply:
        """The twin of ``cell.request``."""
        sending = Sending(timeout_s, headers, None, resolve, receivers)
        return await asyncio.wrap_future(self._future(target, channel, topic, body, sending))

    async def broadcast(self, targets: Sequence[str], channel: str, topic: str, body: object = None, *,
                        timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                        resolve: bool = True) -> dict[str, Answer]:
        """The twin of ``cell.broadcast`` with one body for all."""
        sending = Sending(timeout_s, headers, None, resolve, len(targets))
        futures = {each: asyncio.wrap_future(self._future(each, channel, topic, body, sending)) for each in targets}
        answers: dict[str, Answer] = {}
        for target, future in futures.items():
            try:
                answers[target] = Answer(target, await future, None)
            except ZdlError as error:
                answers[target] = Answer(target, None, error)
        return answers

    def _future(self, target: str, channel: str, topic: str, body: object,
                sending: Sending) -> concurrent.futures.Future[Reply]:
        return self._caller().request_future(target, channel, topic, body, sending)
