"""Forks: cells in processes that begin at once, because everything is imported already; each can be killed."""

from __future__ import annotations

import json
import os
import signal
from types import TracebackType
from typing import Self

from children import Child
from waiting import eventually

# Numbers its children; each says its number before all else that it says. They die with their mother.
MOTHER = """
import codecs, ctypes, json, signal, resource, time, traceback
import zdl.streaming.service
from zdl.errors import ZdlError
for name in ("ascii", "utf-8", "latin-1", "idna"): codecs.lookup(name)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    number, program, arguments = json.loads(line)
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        sys.argv[1:] = arguments
        def say(*words): os.write(1, (" ".join([number, *map(str, words)]) + "\\n").encode())
        say("pid", os.getpid())
        def stay(): signal.pause()
        try:
            exec(program)
        except BaseException:
            traceback.print_exc()
        say("ended")
        signal.pause()
"""


class Fork:
    """One of them."""

    def __init__(self, forks: Forks, number: str) -> None:
        self._forks = forks
        self._number = number
        self.pid = int(self.expect("pid"))

    def expect(self, word: str) -> str:
        """Waits for a line that begins with the word; returns the rest of it."""
        line = self._forks.hear(self._number)
        assert line.split(" ", 1)[0] == word, f"instead of {word!r} it said {line!r}"
        return line[len(word):].strip()

    def kill(self) -> None:
        """kill -9; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{self.pid}"), what=f"the end of {self.pid}")


class Forks:
    """Starts processes; a context manager that ends them all."""

    def __init__(self, **environment: str) -> None:
        self._mother = Child(MOTHER, **environment)
        self._heard: dict[str, list[str]] = {}
        self._all: list[Fork] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._mother.end()

    def start(self, program: str, *arguments: str) -> Fork:
        """One more, which runs a program, with the names of `children.PRELUDE`."""
        number = str(len(self._all))
        self._heard[number] = []
        self._mother.say(json.dumps([number, program, arguments]))
        self._all.append(Fork(self, number))
        return self._all[-1]

    def hear(self, number: str) -> str:
        """The next line of one of them."""
        while not self._heard[number]:
            speaker, _, line = self._mother.hear().partition(" ")
            self._heard[speaker].append(line)
        return self._heard[number].pop(0)
