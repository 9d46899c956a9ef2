"""Threaded: a call that blocks, awaited: it waits on a thread of asyncio.

Cancelling the task, `asyncio.timeout` included, gives the call up, and returns when it has ended: what was given to it is the
caller's again then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
GIVEN_UP = "its task was cancelled"


async def threaded(call: Callable[[], Value], give_up: Callable[[str], object]) -> Value:
    """What the call returns, or raises.

    Args:
        call: blocks.
        give_up: makes it end soon, given why; called on the event loop when the task is cancelled.
    """
    waiting = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        give_up(GIVEN_UP)
        await asyncio.wait([waiting])
        waiting.exception()  # nobody else asks for it
        raise
