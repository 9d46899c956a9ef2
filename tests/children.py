"""Children: cells in processes of their own, so that they can be killed."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
# What every program finds: `say` writes a line that `Child.expect` reads; `stay` waits until the test ends.
PRELUDE = """
import os, sys, threading
import numpy as np
from zdl.assembly import Cell
from zdl.options import *
def say(*words): print(*words, flush=True)
def stay(): sys.stdin.read()
"""


class Child:
    """A Python process that runs a program; a context manager that kills it at the end.

    Args:
        program: Python source, with the names of `PRELUDE`; it should end with ``stay()``.
        arguments: what it finds in ``sys.argv[1:]``.
        more: variables of its environment.
    """

    def __init__(self, program: str, *arguments: str, **more: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **more}
        self._process = subprocess.Popen([sys.executable, "-c", PRELUDE + program, *arguments], env=environment, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="child-reader", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE_S)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def expect(self, word: str, timeout_s: float = PATIENCE_S) -> str:
        """Waits for a line that begins with the word; returns the rest of it."""
        line = self._lines.get(timeout=timeout_s)
        assert line.split(" ", 1)[0] == word, f"instead of {word!r} the child said {line!r}"
        return line[len(word):].strip()

    def hear(self) -> str:
        """Waits for a line."""
        return self._lines.get(timeout=PATIENCE_S)

    def say(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ended(self) -> int:
        """Ends its standard input and waits for its end; its exit code, negative for a signal."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(PATIENCE_S)

    def end(self) -> None:
        """kill -9, and nothing of it is left here."""
        self.__exit__(None, None, None)

    def kill(self) -> None:
        """kill -9: no goodbye, no clean-up."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGSTOP: alive, connected, and silent."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT: after `stop`."""
        self._process.send_signal(signal.SIGCONT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("<end of output>")
