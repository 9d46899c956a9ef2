"""Aio: the awaitable twins of a cell's blocking calls, for any asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.calling import Caller
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, Sending
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
        return await self._asked(target, channel, topic, body, sending)

    async def broadcast(self, targets: Sequence[str], channel: str, topic: str, body: object = None, *,
                        timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                        resolve: bool = True) -> dict[str, Answer]:
        """The twin of ``cell.broadcast`` with one body for all; what is large in it is lent to each target by itself."""
        sending = Sending(timeout_s, headers, None, resolve, 1)
        asked = {each: self._asked(each, channel, topic, body, sending) for each in targets}
        answers: dict[str, Answer] = {}
        # All are settled before any is looked at; cancelling the task cancels each of them.
        for target, found in zip(asked, await asyncio.gather(*asked.values(), return_exceptions=True), strict=True):
            if isinstance(found, ZdlError):
                answers[target] = Answer(target, None, found)
            elif isinstance(found, BaseException):
                raise found
            else:
                answers[target] = Answer(target, found, None)
        return answers

    def _asked(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> asyncio.Future[Reply]:
        caller = self._caller()
        future = caller.future(is_bare=True)
        caller.request_future(target, channel, topic, body, sending, future=future)
        return asyncio.wrap_future(future)
