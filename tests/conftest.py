"""What holds for every test: it leaves nothing behind, and no loop of ours has stumbled."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trees import Trees
from waiting import eventually


class _Errors(logging.Handler):
    """Keeps what zdl logs as an error: a piece of work that failed is a bug of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))


def _our_threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith("zdl-")}


def _our_files(folders: list[Path]) -> set[str]:
    """Sockets of this process, and what is left of files that were being pulled."""
    found = set()
    for folder in folders:
        if folder.is_dir():
            for path in folder.rglob("*"):
                try:
                    is_socket = stat.S_ISSOCK(path.lstat().st_mode)
                except FileNotFoundError:  # another process has just removed its own
                    continue
                if path.name.endswith(".zdl-part") or is_socket:
                    found.add(str(path))
    return found


@pytest.fixture
def logged_errors() -> Iterator[list[str]]:
    """What zdl has logged as an error; a test that expects some empties the list."""
    errors = _Errors()
    logging.getLogger("zdl").addHandler(errors)
    yield errors.texts
    logging.getLogger("zdl").removeHandler(errors)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest, logged_errors: list[str]) -> Iterator[None]:
    """Fails a test that leaves a thread, a socket or a part file of zdl, or in which a loop of zdl logged an error."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"zdl-{os.getuid()}"
    threads = _our_threads()
    folders = [request.getfixturevalue("tmp_path")] if "tmp_path" in request.fixturenames else []
    yield
    eventually(lambda: _our_threads() <= threads, what=f"the end of {sorted(_our_threads() - threads)}")
    own = {each for each in _our_files([runtime]) if Path(each).name.startswith(f"{os.getpid()}-")}
    left = _our_files(folders) | own
    assert not left, f"files were left behind: {sorted(left)}"
    assert not logged_errors, "zdl logged:\n" + "\n".join(logged_errors)


@pytest.fixture
def trees() -> Iterator[Trees]:
    """Makes the cells of a test, and closes them."""
    with Trees() as made:
        yield made
