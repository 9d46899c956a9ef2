"""``zdl demo``: the main job on one machine, with real processes over real sockets, and a table of what moved."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import click

from zdl.assembly import Cell
from zdl.cell.messages import Reply, Request
from zdl.cli.units import DURATION, SIZE
from zdl.errors import Cancelled, IntegrityError, PeerLost, TimedOut, ZdlError

CHANNEL = "demo"
CONSOLE = "console"
READY_S = 60.0
CLOSE_S = 5.0
LOOK_S = 0.05
READ_BYTES = 65536
# How long the system may take from a broken link to the end of the process: it gives the memory back first.
SETTLE_S = 2.0
GIB = 1 << 30
MIB = 1 << 20


@dataclass(slots=True)
class Running:
    """One process of the demo."""

    fqcn: str
    role: str
    process: subprocess.Popen[bytes]
    ready: int
    said: IO[bytes]
    address: str = ""


@dataclass(slots=True)
class Shape:
    """Who is there: a server, relays in a chain, leaves below the last one."""

    hops: int
    leaves_count: int
    same_host: bool = False

    @property
    def relays(self) -> list[str]:
        """``relay-1``, ``relay-1.relay-2``, …"""
        return [".".join(f"relay-{number + 1}" for number in range(depth + 1)) for depth in range(self.hops)]

    @property
    def leaves(self) -> list[str]:
        """Below the last relay, or below the server."""
        above = self.relays[-1:]
        return [".".join([*above, f"leaf-{number + 1}"]) for number in range(self.leaves_count)]

    @property
    def below(self) -> list[list[str]]:
        """Whom each forwarder sends to, from the server down."""
        return [*([each] for each in self.relays), self.leaves]


@dataclass(slots=True)
class Progress:
    """How far the leaves are."""

    done: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def note(self, request: Request) -> None:
        """A leaf tells."""
        told: Any = request.body
        self.done[told["leaf"]] = told["done"]
        self.total = max(self.total, told["total"])


class Processes:
    """The demo's processes: started one after the other, ended together, whatever happens.

    Each is a ``zdl start --until-eof``: it ends with the pipe on its standard input, so that nothing is
    left when the demo itself is killed.
    """

    def __init__(self) -> None:
        self.running: list[Running] = []
        self.is_ending = False

    def start(self, fqcn: str, role: str, *, parent: str = "", same_host: bool = False) -> Running:
        """Start one cell. Returns at once; see `wait_ready`."""
        ready, tell = os.pipe()
        command = [sys.executable, "-m", "zdl", "start", role, fqcn, "--until-eof", "--ready-fd", str(tell), "--grace", "1s",
                   "--load", f"zdl.cli.demo_cells:{'leaf' if role == 'worker' else role}"]
        if not same_host:
            command += ["--no-same-host"]
        if parent:
            command += ["--parent", parent]
        said = tempfile.TemporaryFile()
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, pass_fds=(tell,),
                                   start_new_session=True)
        os.close(tell)
        each = Running(fqcn, role, process, ready, said)
        self.running.append(each)
        return each

    def wait_ready(self, each: Running) -> None:
        """Wait until the cell says where it listens.

        Raises:
            PeerLost: its process has ended, or another one, without which it may wait for long.
        """
        line = b""
        with os.fdopen(each.ready, "rb", buffering=0) as ready:
            while not line.endswith(b"\n"):
                if select.select([ready], [], [], LOOK_S)[0]:
                    piece = ready.read(READ_BYTES)
                    if not piece:
                        break
                    line += piece
                else:
                    self._look_around(each)
        if not line.endswith(b"\n"):
            self._look_around(each)
            each.process.wait(CLOSE_S)
            each.said.seek(0)
            last = each.said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise PeerLost(target=each.fqcn, lost=each.fqcn, at=CONSOLE,
                           why=f"its process ended at once, {_how(each.process)}: {last}")
        told = json.loads(line)
        each.address = told["addresses"][0] if told["addresses"] else ""

    def _look_around(self, starting: Running) -> None:
        """Raises for a process, other than the one that starts, that has ended."""
        dead = next((each for each in self.running if each is not starting and each.process.poll() is not None), None)
        if dead is not None:
            raise PeerLost(target=dead.fqcn, lost=dead.fqcn, at=CONSOLE,
                           why=f"its process {dead.process.pid} ended while {starting.fqcn} was started, {_how(dead.process)}")

    def dead(self) -> Running | None:
        """A process that has ended although the demo goes on."""
        return next((each for each in self.running if each.process.poll() is not None), None)

    def look(self, when: str) -> None:
        """See whether all of them run.

        Raises:
            PeerLost: one has ended.
        """
        dead = self.dead()
        if dead is not None:
            raise PeerLost(target=dead.fqcn, lost=dead.fqcn, at=CONSOLE,
                           why=f"its process {dead.process.pid} ended {when}, {_how(dead.process)}")

    def settle(self) -> None:
        """Give a process that is dying the moment that it takes."""
        until = time.monotonic() + SETTLE_S
        while self.dead() is None and time.monotonic() < until:
            time.sleep(LOOK_S / 5)

    def end(self) -> None:
        """End all: close their pipes, then kill what is left."""
        self.is_ending = True
        for each in reversed(self.running):
            if each.process.stdin is not None:
                each.process.stdin.close()
        until = time.monotonic() + CLOSE_S
        for each in self.running:
            try:
                each.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            each.said.close()


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, dir_okay=False, readable=True))
@click.option("--size", type=SIZE, default="256M", show_default=True, help="Of the state dict, when no PATH is given.")
@click.option("--hops", type=click.IntRange(0, 8), default=1, show_default=True, help="Relays in a chain.")
@click.option("--leaves", type=click.IntRange(1, 64), default=2, show_default=True, help="Leaves below the last relay.")
@click.option("--same-host/--no-same-host", default=False, show_default=True,
              help="Whether arrays come in shared memory, as they do on one machine, or are sent as between two.")
@click.option("--timeout", "timeout_s", type=DURATION, default="10m", show_default=True, help="How long all of it may take.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def demo(paths: Sequence[str], *, size: int, hops: int, leaves: int, same_host: bool, timeout_s: float,
         as_json: bool) -> None:
    """Send a model by reference through relays; the leaves pull it straight from its origin.

    Starts a server, relays and leaves as processes of this machine. With PATH, the arrays in .npz, .npy
    and .safetensors files, or any other file as bytes, go instead of a made-up model.
    """
    from zdl.cli.demo_report import Display, report

    shape = Shape(hops, leaves, same_host)
    absolute = [os.path.abspath(each) for each in paths]
    with Display(is_quiet=as_json) as display, _cells(shape, display) as (processes, console, progress):
        run = _Run(processes, console, time.monotonic() + timeout_s)
        prepared = run.ask("server", "prepare", {"paths": absolute, "size": size})
        display.prepared(prepared["bytes"], prepared["arrays"], len(shape.leaves))
        for _ in range(2):  # the first finds the machine's memory cold; the second is the baseline
            raw = run.ask("server", "raw", {"leaves": shape.leaves})
        for each in processes.running:
            run.ask(each.fqcn, "begin", None)
        reports = run.ask("server", "run", {"below": shape.below, "leaves": shape.leaves},
                          watch=lambda: display.progress(sum(progress.done.values())))
        display.progress(prepared["bytes"] * len(shape.leaves))
        used = {each.fqcn: run.ask(each.fqcn, "used", None) for each in processes.running}
        roles = {each.fqcn: each.role for each in processes.running}
    result = report(roles, reports, used, raw, as_json=as_json)
    if not result["ok"]:
        wrong = next(each["fqcn"] for each in result["leaves"] if not each["verified"])
        raise IntegrityError(ref="the state dict", origin=wrong, offset=0, attempts=1)


@dataclass(slots=True)
class _Run:
    """Asks the cells one thing after the other, and notices when one of their processes is gone."""

    processes: Processes
    console: Cell
    until: float

    def ask(self, fqcn: str, topic: str, body: object, *, watch: Any = None) -> Any:
        """The body of the reply.

        Raises:
            PeerLost: a process of the demo has died meanwhile, and which.
        """
        future = self.console.request_future(fqcn, CHANNEL, topic, body, timeout_s=max(1.0, self.until - time.monotonic()))
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while not done.wait(LOOK_S):
            if watch is not None:
                watch()
            self._look(topic)
        try:
            reply: Reply = future.result()
        except Cancelled:
            raise
        except ZdlError:
            self.processes.settle()  # a death is seen through its links a moment before the system reports it
            self._look(topic)
            raise
        return reply.body

    def _look(self, topic: str) -> None:
        self.processes.look(f"during '{topic}'")


@contextmanager
def _cells(shape: Shape, display: Any) -> Iterator[tuple[Processes, Cell, Progress]]:
    """All processes up, and this one as a cell beside them."""
    processes, progress = Processes(), Progress()
    with ExitStack() as stack:
        stack.callback(processes.end)
        display.starting(2 + shape.hops + shape.leaves_count)
        above = processes.start("server", "server", same_host=shape.same_host)
        processes.wait_ready(above)
        console = Cell(CONSOLE, parent=above.address)
        console.handler(CHANNEL, "progress")(progress.note)
        for fqcn in shape.relays:
            above = processes.start(fqcn, "relay", parent=above.address)
            processes.wait_ready(above)
        leaves = [processes.start(fqcn, "worker", parent=above.address, same_host=shape.same_host) for fqcn in shape.leaves]
        for each in leaves:
            processes.wait_ready(each)
        stack.enter_context(console)
        _wait_linked(console, processes)
        yield processes, console, progress


def _wait_linked(console: Cell, processes: Processes) -> None:
    """Wait until this cell is linked to the server, which may die meanwhile."""
    until = time.monotonic() + READY_S
    while True:
        try:
            return console.wait_ready(LOOK_S)
        except TimedOut:
            processes.look("before it was asked for anything")
            if time.monotonic() > until:
                raise


def _how(process: subprocess.Popen[bytes]) -> str:
    """How a process ended."""
    code = process.poll()
    if code is None:
        return "it is still running"
    return f"killed by signal {-code}" if code < 0 else f"with exit code {code}"
