"""Aio: the awaitable twins of a cell's blocking calls, for any asyncio loop.

::

    reply = await cell.aio.request("site-1", "task", "train", body)
    async for answer in cell.aio.as_completed(["site-1", "site-2"], "task", "train", body): …
    coded = await cell.aio.replies.request("site-1", "task", "train", body)

Cancelling the task, `asyncio.timeout` included, cancels the call. Replies come by the loop that receives them and not by the
handler pool, so handlers that wait for an event loop do not starve it; but for what is pulled or filtered, which may block.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from zdl.cell.answers import Notices, Undelivered
from zdl.cell.codes import CodedReply, checked, code_of, coded, coded_answer
from zdl.cell.filtering import Asks, Spreads
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, OnProgress, Sending
from zdl.cell.lending import Ended, Lending, Lent
from zdl.cell.messages import Answer, Reply, Route
from zdl.cell.service import Resolving
from zdl.cell.signal import Signal
from zdl.cell.spreading import bodies_of
from zdl.cell.tree import ASK_S, CHANNEL, PING_TOPIC, Reach, not_replied, route_of
from zdl.cell.watching import Watching
from zdl.cell.workflow import Workflow
from zdl.errors import ZdlError
from zdl.fqcn import parse


class Aio:
    """``cell.aio``: the same calls as on the cell, to be awaited. Cancelling the task cancels the call.

    Args:
        caller: gives the calling side of a cell that is open.
        spreader: the same for what goes to many.
        watching: what that cell knows of its parent.
        close: ends it; blocks.
    """

    def __init__(self, caller: Callable[[], Asks], spreader: Callable[[], Spreads], watching: Callable[[], Watching],
                 close: Callable[[float | None], list[str]]) -> None:
        self._caller = caller
        self._spreader = spreader
        self._watching = watching
        self._close = close

    @property
    def replies(self) -> AioReplies:
        """The twin of ``cell.replies``."""
        return AioReplies(self)

    def check(self) -> None:
        """Raises `Closed` where the cell is not open."""
        self._caller()

    async def wait_ready(self, timeout_s: float = 10.0) -> None:
        """The twin of ``cell.wait_ready``."""
        watching = self._watching()
        changed = asyncio.Event()
        remove = watching.when_parent_changes(_on_loop(asyncio.get_running_loop(), changed.set))
        try:
            async with asyncio.timeout(timeout_s):
                while not watching.is_ready():
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            raise watching.late(timeout_s) from None
        finally:
            remove()

    async def close(self, timeout_s: float | None = None) -> list[str]:
        """The twin of ``cell.close``, on a thread of asyncio; it goes on when the task is cancelled."""
        return await asyncio.to_thread(self._close, timeout_s)

    async def request(self, target: str, channel: str, topic: str, body: object = None, *,
                      timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                      resolve: Resolving = True, receivers: Sequence[str] | int = 1, trace: bool = False, optional: bool = False,
                      on_progress: OnProgress | None = None, lending: Lending | None = None,
                      workflow: Workflow | None = None) -> Reply:
        """The twin of ``cell.request``; `on_progress` is called on the event loop."""
        heard = None if on_progress is None else _on_loop(asyncio.get_running_loop(), on_progress)
        sending = Sending(timeout_s, headers, None, resolve, receivers, trace, optional, heard, lending, workflow)
        return await self._asked(target, channel, topic, body, sending)

    async def broadcast(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
                        timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                        resolve: Resolving = True, receivers: Sequence[str] | int = 1, optional: bool = False,
                        on_progress: OnProgress | None = None, lending: Lending | None = None,
                        workflow: Workflow | None = None) -> dict[str, Answer]:
        """The twin of ``cell.broadcast``, all at the end, in the order of the targets."""
        found = {answer.target: answer async for answer in self.as_completed(
            targets, channel, topic, body, timeout_s=timeout_s, headers=headers, resolve=resolve, receivers=receivers,
            optional=optional, on_progress=on_progress, lending=lending, workflow=workflow)}
        return {target: found[target] for target in bodies_of(targets, body)}

    async def as_completed(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str,
                           body: object = None, *, timeout_s: float | None = DEFAULT_S,
                           headers: Mapping[str, object] = NO_HEADERS, resolve: Resolving = True,
                           receivers: Sequence[str] | int = 1, optional: bool = False,
                           on_progress: OnProgress | None = None, lending: Lending | None = None,
                           workflow: Workflow | None = None) -> AsyncIterator[Answer]:
        """The twin of ``cell.broadcast(…).as_completed()``: ``async for answer in cell.aio.as_completed(…)``.

        Ending the iteration early, or cancelling the task, cancels the calls that are still out. `on_progress` is called on
        the event loop.
        """
        loop = asyncio.get_running_loop()
        came: asyncio.Queue[Answer] = asyncio.Queue()
        abort = Signal()
        heard = None if on_progress is None else _on_loop(loop, on_progress)
        sending = Sending(timeout_s, headers, abort, resolve, receivers, optional=optional, on_progress=heard, lending=lending,
                          workflow=workflow)
        spreader = self._spreader()
        answers = spreader.broadcast(bodies_of(targets, body), channel, topic, sending)
        spreader.told(answers, sending, _on_loop(loop, came.put_nowait))
        try:
            for _ in answers:
                yield await came.get()
        finally:
            abort.trigger("nobody waits for it")

    async def notice(self, targets: str | Sequence[str] | Mapping[str, object], channel: str, topic: str,
                     body: object = None, *, headers: Mapping[str, object] = NO_HEADERS, receivers: Sequence[str] | int = 1,
                     optional: bool = False, undelivered: Undelivered | None = None,
                     lending: Lending | None = None, workflow: Workflow | None = None) -> Notices:
        """``cell.notice`` and the twin of ``wait_handed``: returns when it has left for each target, or could not."""
        loop = asyncio.get_running_loop()
        sending = Sending(headers=headers, receivers=receivers, optional=optional, lending=lending, workflow=workflow)
        notices = self._spreader().notice(bodies_of(targets, body), channel, topic, sending, undelivered)
        handed = asyncio.Event()
        notices.when_handed(_on_loop(loop, handed.set))
        await handed.wait()
        return notices

    async def wait_lent(self, lent: Lent, timeout_s: float | None = None) -> list[Ended]:
        """The twin of ``lent.wait``: of ``cell.lent()``, or of what one message has lent."""
        loop = asyncio.get_running_loop()
        ended = [loop.create_future() for _ in lent]
        for transaction, future in zip(lent, ended):
            transaction.when_done(_on_loop(loop, partial(_settled, future)))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*ended)
        except TimeoutError:
            raise lent.late(timeout_s) from None
        return lent.wait(0.0)

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

    def _asked(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> asyncio.Future[Reply]:
        caller = self._caller()
        future = caller.future(is_bare=True)
        caller.request_future(target, channel, topic, body, sending, future=future)
        return asyncio.wrap_future(future)


class AioReplies:
    """``cell.aio.replies``: requests that always bring a reply with a return code, to be awaited; see `Replies`.

    Args:
        aio: the calls that it is made of.
    """

    def __init__(self, aio: Aio) -> None:
        self._aio = aio

    async def request(self, target: str, channel: str, topic: str, body: object = None, *,
                      timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                      resolve: Resolving = True, receivers: Sequence[str] | int = 1,
                      lending: Lending | None = None, workflow: Workflow | None = None) -> CodedReply:
        """The twin of ``cell.replies.request``."""
        self._aio.check()
        try:
            reply = await self._aio.request(target, channel, topic, body, timeout_s=timeout_s, headers=headers,
                                            resolve=resolve, receivers=receivers, lending=lending, workflow=workflow)
        except ZdlError as error:
            return checked(CodedReply(code_of(error), None, error))
        return checked(coded(lambda: reply))

    async def broadcast(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str,
                        body: object = None, *, timeout_s: float | None = DEFAULT_S,
                        headers: Mapping[str, object] = NO_HEADERS, resolve: Resolving = True,
                        receivers: Sequence[str] | int = 1, lending: Lending | None = None,
                        workflow: Workflow | None = None) -> dict[str, CodedReply]:
        """The twin of ``cell.replies.broadcast``."""
        answers = await self._aio.broadcast(targets, channel, topic, body, timeout_s=timeout_s, headers=headers,
                                            resolve=resolve, receivers=receivers, lending=lending, workflow=workflow)
        return {target: coded_answer(answer) for target, answer in answers.items()}


def _settled(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _on_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., object]) -> Callable[..., None]:
    """Has an event loop call the function, unless that has been closed meanwhile."""
    def tell(*arguments: object) -> None:
        """On whatever thread it is known."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(function, *arguments)

    return tell
