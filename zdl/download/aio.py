"""Aio: the awaitable twins of the calls that pull, for any asyncio loop.

::

    model = await cell.downloads.aio.pull(request.body["model"])

A pull waits on a thread of asyncio. Cancelling the task, `asyncio.timeout` included, cancels the pull, and returns when it
has ended: memory that was given is the caller's again then.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from zdl.cell.signal import Signal
from zdl.cell.threaded import threaded
from zdl.download.puller import Progress
from zdl.refs import Ref

Value = TypeVar("Value")


class AioDownloads:
    """``cell.downloads.aio``: the same calls as on ``cell.downloads``, to be awaited.

    Args:
        pull: the call that blocks; so for the others.
    """

    def __init__(self, pull: Callable[..., object], resolve: Callable[..., object], pull_file: Callable[..., Path],
                 find: Callable[..., object]) -> None:
        self._pull = pull
        self._resolve = resolve
        self._pull_file = pull_file
        self._find = find

    async def find(self, origin: str, name: str, *, timeout_s: float | None = None) -> object:
        """The twin of ``cell.downloads.find``."""
        return await _waited(self._find, origin, name, timeout_s=timeout_s)

    async def pull(self, what: object, into: object = None, *, timeout_s: float | None = None,
                   progress: Progress | None = None) -> object:
        """The twin of ``cell.downloads.pull``; `progress` is called from the data lane."""
        return await _waited(self._pull, what, into, timeout_s=timeout_s, progress=progress)

    async def resolve(self, body: object, *, timeout_s: float | None = None, progress: Progress | None = None) -> object:
        """The twin of ``cell.downloads.resolve``."""
        return await _waited(self._resolve, body, timeout_s=timeout_s, progress=progress)

    async def pull_file(self, ref: Ref, path: str | os.PathLike[str], *, overwrite: bool = False,
                        timeout_s: float | None = None, progress: Progress | None = None) -> Path:
        """The twin of ``cell.downloads.pull_file``."""
        return await _waited(self._pull_file, ref, path, overwrite=overwrite, timeout_s=timeout_s, progress=progress)


async def _waited(call: Callable[..., Value], *arguments: object, **options: Any) -> Value:
    abort = Signal()
    return await threaded(partial(call, *arguments, abort=abort, **options), abort.trigger)
