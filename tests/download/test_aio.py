"""Aio: what blocks on a thread is awaited on an event loop, and ends with its task."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zdl.download.aio import AioDownloads
from zdl.errors import TimedOut, UnknownRef
from zdl.options import Options, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from trees import Trees
from waiting import eventually

SLOW = PullOptions(chunk_bytes=65536, window_bytes_min=65536, window_bytes_max=65536, same_host=False)


@pytest.mark.row("M7")
def test_refs_objects_and_files_are_awaited(trees: Trees, tmp_path: Path) -> None:
    server, site = trees.grow("server", "site-1")
    array = np.arange(100_000.0).reshape(100, 1000)
    body: Any = server.downloads.lend({"w": array}, receivers=0).body
    (tmp_path / "data.bin").write_bytes(b"x" * 100_000)
    file: Any = server.downloads.lend_file(tmp_path / "data.bin", receivers=0).body

    async def program() -> None:
        downloads = site.downloads.aio
        assert isinstance(downloads, AioDownloads)
        mine = np.empty((10, 1000))
        rows, columns, whole, path = await asyncio.gather(
            downloads.pull(body["w"][:10], mine), downloads.pull(body["w"][:, 3]), downloads.resolve(body),
            downloads.pull_file(file, tmp_path / "copy.bin"))
        found: Any = whole
        assert rows is mine and np.array_equal(mine, array[:10]) and np.array_equal(np.asarray(columns), array[:, 3])
        assert np.array_equal(found["w"], array) and path.read_bytes() == b"x" * 100_000
        server.downloads.publish("model", body)
        named: Any = await downloads.find("server", "model")
        assert named["w"].shape == array.shape
        with pytest.raises(UnknownRef):
            await downloads.find("server", "no such model")
        with pytest.raises(UnknownRef):
            await downloads.pull(Ref(Source("server", bytes(16), bytes(16), 8), 0, 0, 8, "bytes"))

    asyncio.run(program())


@pytest.mark.row("M7")
def test_a_task_that_is_cancelled_ends_its_pull_first(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=SLOW))
    lent = server.downloads.lend(np.zeros(64 << 20, np.uint8))
    seen: list[int] = []

    async def program() -> None:
        mine = np.zeros(64 << 20, np.uint8)
        task = asyncio.create_task(site.downloads.aio.pull(lent.body, mine, progress=lambda done, total: seen.append(done)))
        while not seen:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(site.downloads.transfers) == 1 and site.downloads.transfers[0].seconds is not None, "it has ended"
        with pytest.raises(TimedOut):
            await site.downloads.aio.pull(lent.body, timeout_s=0.01)

    asyncio.run(program())
    eventually(lambda: lent.receivers == {"site-1": Outcome.CANCELLED})
    lent.delete()
