"""Processes: the command ``zdl`` in processes of its own, which say by a pipe when they are ready."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
# What starting and ending a process may take on a machine that does ten other things.
PROCESS_S = 60.0


def words_of(*words: str | Path) -> list[str]:
    """The command line of a ``zdl`` with these words."""
    return [sys.executable, "-m", "zdl", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """Ours without any ``ZDL_*``, and with this checkout to import from."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZDL_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, "COLUMNS": "200", **more}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of its standard output."""
        return self.out.splitlines()


def ended(*words: str | Path, cwd: Path | None = None, prefix: Sequence[str] = (), **more: str) -> Ended:
    """Runs a command to its end; `more` are variables of its environment."""
    done = subprocess.run([*prefix, *words_of(*words)], cwd=cwd or ROOT, env=environment(**more), text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=2 * PROCESS_S)
    return Ended(done.returncode, done.stdout, done.stderr)


class Zdl:
    """A ``zdl`` that runs; a context manager that kills it at the end, if it has not ended.

    Args:
        words: after ``zdl``. What is started by ``start`` gets a ``--ready-fd``.
        cwd: where.
        more: variables of its environment.
    """

    def __init__(self, *words: str | Path, cwd: Path | None = None, **more: str) -> None:
        self._ready, write = os.pipe()
        fd = ("--ready-fd", str(write)) if "start" in words else ()
        self.process = subprocess.Popen(words_of(*words, *fd), cwd=cwd or ROOT, env=environment(**more), pass_fds=[write],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ready)
        for each in (self.process.stdin, self.process.stdout, self.process.stderr):
            if each is not None:
                each.close()

    def ready(self) -> Mapping[str, Any]:
        """What it says when it is ready; waits for that."""
        line = self._line(self._ready)
        facts = json.loads(line)
        assert isinstance(facts, dict)
        return facts

    @property
    def address(self) -> str:
        """The first address that it says it listens at; may be asked for once."""
        return str(self.ready()["addresses"][0])

    def line(self) -> str:
        """The next line of its standard output; waits for it."""
        assert self.process.stdout is not None
        return self._line(self.process.stdout.fileno())

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def ended(self) -> Ended:
        """Waits for its end, without ending its standard input; what of its output has not been read."""
        assert self.process.stdout is not None and self.process.stderr is not None
        out = self.process.stdout.read()
        err = self.process.stderr.read()
        return Ended(self.process.wait(PROCESS_S), out.decode(), err.decode())

    def stopped(self) -> Ended:
        """Sends SIGTERM and waits for the end."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def _line(self, descriptor: int) -> str:
        text = b""
        until = time.monotonic() + PROCESS_S
        while not text.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            assert readable, f"{self.process.args} said only {text!r} in {PROCESS_S} s"
            byte = os.read(descriptor, 1)
            assert byte, f"it ended after {text!r}: {self.ended()}"
            text += byte
        return text.decode().rstrip("\n")


# What the fixture `run` gives: starts a `Zdl` with these words.
Start = Callable[..., Zdl]
