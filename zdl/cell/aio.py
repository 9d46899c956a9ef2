"""Aio: the awaitable twins of a cell's blocking calls, for any asyncio loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

from zdl.cell.filtering import Asks
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, OnProgress, Sending
from zdl.cell.messages import Answer, Reply, Route
from zdl.cell.tree import ASK_S, CHANNEL, PING_TOPIC, Reach, not_replied, route_of
from zdl.errors import ZdlError
from zdl.fqcn import parse


class Aio:
    """``cell.aio``: the same calls as on the cell, to be awaited. Cancelling the task cancels the call.

    Args:
        caller: gives the calling side of a cell that is open.
    """

    def __init__(self, caller: Callable[[], Asks]) -> None:
        self._caller = caller

    async def request(self, target: str, channel: str, topic: str, body: object = None, *,
                      timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                      resolve: bool = True, receivers: Sequence[str] | int = 1, trace: bool = False, optional: bool = False,
                      on_progress: OnProgress | None = None) -> Reply:
        """The twin of ``cell.request``; `on_progress` is called on the event loop."""
        heard = None if on_progress is None else _on_loop(asyncio.get_running_loop(), on_progress)
        sending = Sending(timeout_s, headers, None, resolve, receivers, trace, optional, heard)
        return await self._asked(target, channel, topic, body, sending)

    async def broadcast(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
                        timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                        resolve: bool = True) -> dict[str, Answer]:
        """The twin of ``cell.broadcast``, all at the end; what is large in a body is lent to each target by itself."""
        sending = Sending(timeout_s, headers, None, resolve, 1)
        asked = self._asked_each(targets, channel, topic, body, sending)
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

    async def as_completed(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str,
                           body: object = None, *, timeout_s: float | None = DEFAULT_S,
                           headers: Mapping[str, object] = NO_HEADERS, resolve: bool = True) -> AsyncIterator[Answer]:
        """The twin of ``cell.broadcast(…).as_completed()``: ``async for answer in cell.aio.as_completed(…)``.

        Ending the iteration early, or cancelling the task, cancels the calls that are still out.
        """
        asked = self._asked_each(targets, channel, topic, body, Sending(timeout_s, headers, None, resolve, 1))
        came: asyncio.Queue[str] = asyncio.Queue()
        for target, future in asked.items():
            future.add_done_callback(lambda done, target=target: came.put_nowait(target))  # type: ignore[misc]
        try:
            for _ in asked:
                target = await came.get()
                yield _answer(target, asked[target])
        finally:
            for future in asked.values():
                future.cancel()

    async def is_reachable(self, fqcn: str, timeout_s: float = ASK_S) -> Reach:
        """The twin of ``cell.tree.is_reachable``."""
        name = parse(fqcn)
        began = time.monotonic()
        try:
            reply = await self._asked(name, CHANNEL, PING_TOPIC, None, Sending(timeout_s, resolve=False))
        except ZdlError as error:
            self._caller()  # who is closed meanwhile cannot tell
            return not_replied(name, error, time.monotonic() - began)
        return Reach(name, True, None, time.monotonic() - began, reply.hops)

    async def route(self, fqcn: str, timeout_s: float = ASK_S) -> Route:
        """The twin of ``cell.tree.route``."""
        sending = Sending(timeout_s, resolve=False, trace=True)
        return route_of(await self._asked(parse(fqcn), CHANNEL, PING_TOPIC, None, sending))

    def _asked_each(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object,
                    sending: Sending) -> dict[str, asyncio.Future[Reply]]:
        bodies = dict(targets) if isinstance(targets, Mapping) else {each: body for each in targets}
        return {each: self._asked(each, channel, topic, own, sending) for each, own in bodies.items()}

    def _asked(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> asyncio.Future[Reply]:
        caller = self._caller()
        future = caller.future(is_bare=True)
        caller.request_future(target, channel, topic, body, sending, future=future)
        return asyncio.wrap_future(future)


def _answer(target: str, done: asyncio.Future[Reply]) -> Answer:
    error = done.exception()
    if error is None:
        return Answer(target, done.result(), None)
    if isinstance(error, ZdlError):
        return Answer(target, None, error)
    raise error


def _on_loop(loop: asyncio.AbstractEventLoop, on_progress: OnProgress) -> OnProgress:
    """Has an event loop call the function, unless that has been closed meanwhile."""
    def tell(facts: Mapping[str, object]) -> None:
        """On the handler pool."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(on_progress, facts)

    return tell
