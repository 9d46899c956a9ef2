"""The measured end: ``python -m zdl_bench.peer module:Class [core]`` plays one role until its stdin ends.

The role's methods are the commands; see `zdl_bench.processes` for the lines. Beside them every peer knows
``meter_start`` and ``meter_read``, so that its CPU and memory can be asked for while its role is busy serving, and
``memory_warmed``, so that no run pays for pages that the machine has yet to get.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from zdl_bench.meter import Meter
from zdl_bench.warmth import memory_warmed


class Peer:
    """Answers the lines of its parent by calling its role."""

    def __init__(self, role: object) -> None:
        self._role = role
        self._meter = Meter()

    def answer(self, line: str) -> str:
        """What to write back, without the line's end; an exception of the role becomes an error line."""
        asked = json.loads(line)
        try:
            return json.dumps({"ok": self._done(asked["do"], asked["with"]) or {}})
        except Exception:  # user code, from here: the parent is told, with the place
            return json.dumps({"error": traceback.format_exc()})

    def _done(self, command: str, arguments: dict[str, Any]) -> Any:
        if command == "meter_start":
            return self._meter.start()
        if command == "meter_read":
            return self._meter.read()
        if command == "memory_warmed":
            return memory_warmed(**arguments)
        if command.startswith("_"):
            raise ValueError(f"{command!r} is no command")
        return getattr(self._role, command)(**arguments)


def role_named(text: str) -> object:
    """``zdl_bench.raw_tcp:Origin`` → an instance of that class."""
    module, _, name = text.partition(":")
    made: object = getattr(importlib.import_module(module), name)()
    return made


def serve(peer: Peer, *, lines: TextIO, answers: TextIO) -> None:
    """Answers lines for ever; the process ends as soon as they do, even in the middle of a command.

    Threads: commands run on the calling thread; another one waits for the end of the lines.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in lines:
            waiting.put(line)
        os._exit(0)

    threading.Thread(target=listen, name="parent", daemon=True).start()
    while True:
        answers.write(peer.answer(waiting.get()) + "\n")
        answers.flush()


def main(argv: list[str]) -> None:
    """Plays the role named by the first argument; the second one, if any, is the core that all its threads run on."""
    if len(argv) > 1:
        os.sched_setaffinity(0, {int(argv[1])})
    # Whatever the role prints must not reach the parent's pipe.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Peer(role_named(argv[0])), lines=sys.stdin, answers=answers)


if __name__ == "__main__":
    main(sys.argv[1:])
