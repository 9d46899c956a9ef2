"""What the tests of commands share: cells in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from processes import Start, Zdl


@pytest.fixture
def run() -> Iterator[Start]:
    """Starts a ``zdl`` with these words, and kills it after the test, if it still runs."""
    with ExitStack() as running:
        def start(*words: str | Path, cwd: Path | None = None, **more: str) -> Zdl:
            return running.enter_context(Zdl(*words, cwd=cwd, **more))

        yield start


@pytest.fixture
def server(run: Start) -> str:
    """The address of a running server."""
    return run("start", "server", "server").address


@pytest.fixture
def relay(run: Start, server: str) -> str:
    """The address of a relay ``site-1`` below the server."""
    return run("start", "relay", "site-1", "--parent", server).address
