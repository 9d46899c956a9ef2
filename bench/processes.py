"""The measuring end: starts a measured process and asks it things, one JSON line each way.

``{"do": "pull", "with": {...}}`` goes to its stdin, ``{"ok": {...}}`` or ``{"error": "..."}`` comes from its
stdout. The child ends when its stdin ends, so it cannot outlive this process, however this process ends; `Child.stop`
kills what does not end by itself. The other end of the pipe is `zdl_bench.peer`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

# Making and checking gigabytes takes seconds; a minute of silence means that something hangs.
ANSWER_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0


class PeerFailed(RuntimeError):
    """A measured process raised, ended or fell silent.

    Attributes:
        role: what it was started as.
        command: what it was asked.
        reason: what happened, with its traceback if it raised.
    """

    def __init__(self, *, role: str, command: str, reason: str) -> None:
        super().__init__(f"{role} was asked to {command}: {reason}")
        self.role = role
        self.command = command
        self.reason = reason


class Child:
    """A process of ours that plays one role, such as ``zdl_bench.raw_tcp:Origin``.

    Args:
        role: of the process.
        core: the one that all its threads run on; None: the system chooses.

    Threads: one thread uses it.
    Lifetime: from `start` (or ``with``) to `stop`; it is started once.
    """

    def __init__(self, role: str, *, core: int | None = None) -> None:
        self._role = role
        self._core = core
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def __enter__(self) -> Child:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self._process is None:
            return f"<Child {self._role} not started>"
        ended = self._process.poll()
        return f"<Child {self._role} pid={self._process.pid} {'running' if ended is None else f'ended {ended}'}>"

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._running("tell its pid").pid

    def start(self) -> None:
        """Starts the process; it is ready when it answers."""
        assert self._process is None, "a child is started once"
        # A session of its own: an interrupt at the terminal reaches us, and the child through its stdin.
        command = [sys.executable, "-m", "zdl_bench.peer", self._role, *([] if self._core is None else [str(self._core)])]
        self._process = subprocess.Popen(command, bufsize=0,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Has the child call one method of its role and waits for what it returns.

        Args:
            command: the method's name.
            arguments: its keyword arguments; they travel as JSON.

        Raises:
            PeerFailed: the method raised, or the child ended or did not answer within `ANSWER_TIMEOUT_S`.
        """
        return self._ask(command, arguments, timeout_s=ANSWER_TIMEOUT_S)

    def kill(self) -> None:
        """Ends the process as a fault would; what is left of it is put away by `stop`."""
        process = self._running("die")
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Asks the role to close, then ends the process; idempotent, raises nothing."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        if process.poll() is None and not process.stdin.closed:
            try:
                self._ask("stop", {}, timeout_s=STOP_TIMEOUT_S)
            except PeerFailed as failure:
                print(failure, file=sys.stderr)
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _running(self, command: str) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise PeerFailed(role=self._role, command=command, reason=f"it is not running: {self!r}")
        return self._process

    def _ask(self, command: str, arguments: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        process = self._running(command)
        assert process.stdin is not None
        question = json.dumps({"do": command, "with": arguments}) + "\n"
        try:
            process.stdin.write(question.encode())
        except BrokenPipeError:
            raise PeerFailed(role=self._role, command=command, reason="it has ended") from None
        answer: dict[str, Any] = json.loads(self._line(command, deadline=time.monotonic() + timeout_s))
        if "error" in answer:
            raise PeerFailed(role=self._role, command=command, reason=str(answer["error"]))
        told: dict[str, Any] = answer["ok"]
        return told

    def _line(self, command: str, *, deadline: float) -> bytes:
        process = self._running(command)
        assert process.stdout is not None
        while b"\n" not in self._pending:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
                process.kill()
                raise PeerFailed(role=self._role, command=command, reason="it did not answer in time and was killed")
            data = os.read(process.stdout.fileno(), 64 * 1024)
            if not data:
                raise PeerFailed(role=self._role, command=command, reason=f"it ended with {process.wait()}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line
