"""Processes that stop, fork, exit and have their clock moved; handlers that raise, never return or ask back."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.errors import Busy, Closed, PeerLost, RemoteError, TimedOut, ZdlError
from zdl.options import CallOptions, LinkOptions, Options

from children import Child
from trees import SCHEMES, Trees
from waiting import PATIENCE_S, eventually

BEAT_S = 0.25
QUICK = Options(links=LinkOptions(heartbeat_s=BEAT_S, redial_max_s=0.1))
SITE = f"""
options = Options(links=LinkOptions(heartbeat_s={BEAT_S}, redial_max_s=0.1))
cell = Cell("site-1", parent=sys.argv[1], options=options)
cell.handler("task", "echo")(lambda request: request.body)
runs = []
cell.handler("task", "note")(lambda request: runs.append(request.body))
cell.handler("task", "notes")(lambda request: list(runs))
cell.start(); cell.wait_ready(); say("ready"); stay()
"""


def state_of(cell: Cell, fqcn: str) -> str:
    return next((peer.state for peer in cell.peers if peer.fqcn == fqcn and peer.lane == "control"), "gone")


# --- stopped ------------------------------------------------------------------------------------


@pytest.mark.fault("P5")
def test_p5_a_short_stop_is_seen_by_nobody_who_waits(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=QUICK))
    with Child(SITE, server.addresses[0]) as site:
        site.expect("ready")
        incarnation = server.request("site-1", "zdl", "snapshot").body
        site.stop()
        calls = [server.request_future("site-1", "task", "echo", number, timeout_s=PATIENCE_S) for number in range(10)]
        eventually(lambda: state_of(server, "site-1") != "up", what="the stall")
        site.go_on()
        assert [call.result(PATIENCE_S).body for call in calls] == list(range(10))
        eventually(lambda: state_of(server, "site-1") == "up")
        again = server.request("site-1", "zdl", "snapshot").body
        assert isinstance(incarnation, dict) and isinstance(again, dict)
        assert incarnation["incarnation"] == again["incarnation"]


@pytest.mark.fault("P5")
def test_p5_a_long_stop_is_a_loss_and_the_cell_comes_back_as_itself(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=QUICK))
    with Child(SITE, server.addresses[0]) as site:
        site.expect("ready")
        site.stop()
        calls = [server.request_future("site-1", "task", "note", number, timeout_s=None) for number in range(10)]
        eventually(lambda: all(call.done() for call in calls), what="the loss")
        assert all(isinstance(call.exception(), PeerLost) for call in calls)
        assert state_of(server, "site-1") == "gone"
        site.go_on()
        eventually(lambda: state_of(server, "site-1") == "up", what="the way back")
        notes = server.request("site-1", "task", "notes").body
        assert isinstance(notes, list) and len(notes) == len(set(notes)), "nothing ran twice"
        assert server.request("site-1", "task", "echo", 1).body == 1


@pytest.mark.fault("P5")
def test_p5_who_waits_without_a_bound_for_a_cell_that_is_stopped_is_told(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=QUICK))
    ends: list[BaseException | None] = []
    with Child(SITE, server.addresses[0]) as site:
        site.expect("ready")
        site.stop()
        future = server.request_future("site-1", "task", "note", 1, timeout_s=None)
        waiter = threading.Thread(target=lambda: ends.append(future.exception()))
        waiter.start()
        eventually(future.done, what="the loss")
        waiter.join(2.0)
        is_told = bool(ends)
        server.close()
        waiter.join(PATIENCE_S)
    assert is_told and isinstance(ends[0], PeerLost)


# --- handlers -----------------------------------------------------------------------------------


@pytest.mark.fault("P8")
def test_p8_what_a_handler_raises_reaches_its_caller_by_name_and_text_only(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    raised: list[BaseException] = [KeyError("missing"), ValueError("a\nb\x1b[31m"), SystemExit(3), KeyboardInterrupt(), Odd(),
                                   RecursionError("deep"), MemoryError(), AssertionError()]

    @server.handler("task", "raise")
    def fail(request: Request) -> object:
        assert isinstance(request.body, int)
        raise raised[request.body]

    for number, error in enumerate(raised):
        with pytest.raises(RemoteError) as caught:
            site.request("server", "task", "raise", number)
        told = caught.value
        assert (told.fqcn, told.channel, told.topic, told.kind) == ("server", "task", "raise", type(error).__name__)
        assert str(told).isprintable() and "Traceback" not in str(told) and __file__ not in str(told)
    assert server.request("server", "zdl", "ping").body is None


@pytest.mark.fault("P9")
def test_p9_handlers_that_never_return_end_in_timeouts_and_then_in_busy_at_once(trees: Trees) -> None:
    options = Options(calls=CallOptions(handler_threads_max=8, handler_queue_max=16, origin_share=1.0))
    server, site = trees.grow("server", "site-1", options=options)
    go_on = threading.Event()
    server.handler("task", "stuck")(lambda request: go_on.wait(PATIENCE_S))
    calls = [site.request_future("server", "task", "stuck", number, timeout_s=2.0) for number in range(200)]
    ends = [type(call.exception(PATIENCE_S)) for call in calls]
    assert set(ends) == {TimedOut, Busy} and ends.count(TimedOut) <= 8 + 16, ends
    # Threads that were started last have taken theirs from the queue: so much is free in it again.
    more = [site.request_future("server", "task", "stuck", number, timeout_s=PATIENCE_S) for number in range(16)]
    with pytest.raises(Busy) as caught:
        site.request("server", "task", "stuck", timeout_s=PATIENCE_S)
    assert (caught.value.at, caught.value.limit, caught.value.value) == ("server", "handler_queue_max", 16)
    assert site.request("server", "zdl", "ping").body is None, "the cell itself is there"
    go_on.set()
    assert {type(call.exception(PATIENCE_S)) for call in more} <= {Busy, type(None)}


@pytest.mark.fault("P10")
def test_p10_handlers_that_ask_back_and_ask_themselves_do_not_wait_for_each_other(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    def descend(cell: Cell, other: str) -> None:
        @cell.handler("task", "descend")
        def ask(request: Request) -> object:
            depth = request.body
            assert isinstance(depth, int)
            if depth == 0:
                return 0
            target = other if depth % 3 else cell.fqcn
            below = cell.request(target, "task", "descend", depth - 1, timeout_s=PATIENCE_S).body
            assert isinstance(below, int)
            return below + 1

    descend(server, "site-1")
    descend(site, "server")
    assert site.request("server", "task", "descend", 200, timeout_s=PATIENCE_S).body == 200
    calls = [site.request_future("server", "task", "descend", 5, timeout_s=PATIENCE_S) for _ in range(30)]
    assert [call.result(PATIENCE_S).body for call in calls] == [5] * 30


# --- ends ---------------------------------------------------------------------------------------

# `ZDL_LIVES=1000 python -m pytest tests/faults/test_processes.py -k p12` asks for as many as the catalogue does.
LIVES = int(os.environ.get("ZDL_LIVES", "40"))
LOAD_THREADS = 3


def leftovers(folder: Path) -> tuple[set[str], int, list[str]]:
    """Threads of ours, sockets, and files."""
    sockets = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            sockets += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    threads = {each.name for each in threading.enumerate() if each.name.startswith("zdl-")}
    return threads, sockets, sorted(each.name for each in folder.iterdir())


def live(rng: random.Random, trees: Trees) -> list[str]:
    """One life of a small fabric under load, ended at a random moment in a random order. Returns what went wrong."""
    wrong: list[str] = []
    cells: list[Cell] = []
    options = Options(close_s=0.5, links=LinkOptions(heartbeat_s=BEAT_S, redial_max_s=0.1))
    server = Cell("server", listen=trees.address(rng.choice(SCHEMES)), options=options)
    server.start()
    cells.append(server)
    for name in ("site-1", "site-2")[:rng.randrange(1, 3)]:
        cells.append(Cell(name, parent=server.addresses[0], options=options))
        if rng.random() < 0.9:
            cells[-1].start()
    for cell in cells:
        cell.handler("task", "echo")(lambda request: request.body)
    started = threading.Semaphore(0)

    def load(seed: int) -> None:
        own = random.Random(seed)
        started.release()
        while True:
            one, other = own.choice(cells), own.choice(cells)
            try:
                body = {"x": b"x" * own.choice((1, 5000, 300_000))}
                if own.random() < 0.3:
                    one.notice(other.fqcn, "task", "echo", body)
                elif own.random() < 0.3:
                    one.request_future(other.fqcn, "task", "echo", body, timeout_s=0.2)
                elif one.request(other.fqcn, "task", "echo", body, timeout_s=0.2).body != body:
                    wrong.append("another body")
            except Closed:
                if all("closed" in repr(cell) for cell in cells):
                    return
            except ZdlError:
                continue

    threads = [threading.Thread(target=load, args=(rng.randrange(1 << 30),)) for _ in range(LOAD_THREADS)]
    for thread in threads:
        thread.start()
        started.acquire()
    for _ in range(rng.randrange(4)):
        with suppress(ZdlError):
            server.request("server", "task", "echo", 1, timeout_s=0.2)
    closers = [threading.Thread(target=cell.close) for cell in cells for _ in range(rng.randrange(1, 3))]
    rng.shuffle(closers)
    for closer in closers:
        closer.start()
    for thread in (*closers, *threads):
        thread.join(PATIENCE_S)
        if thread.is_alive():
            wrong.append(f"{thread.name} hangs")
    for cell in cells:
        left = cell.close()
        wrong += [f"{cell.fqcn}: {each}" for each in left if "handlers" not in each]
    return wrong


@pytest.mark.fault("P12")
@pytest.mark.row("L2")
def test_p12_cells_that_end_at_any_moment_under_load_leave_nothing_behind(trees: Trees) -> None:
    before: tuple[set[str], int, list[str]] = leftovers(trees.folder)
    for seed in range(LIVES):
        wrong = live(random.Random(seed), trees)
        assert not wrong, f"seed {seed}: {wrong}"
        eventually(lambda: leftovers(trees.folder) == before, what=f"nothing left after seed {seed}: {before}")


@pytest.mark.fault("P12")
@pytest.mark.row("L2")
@pytest.mark.parametrize("at_work", ["idle", "handler", "waiting"])
def test_p12_an_interpreter_that_exits_with_an_open_cell_exits(at_work: str) -> None:
    program = f"""
import warnings
warnings.simplefilter("error")
cell = Cell("server", listen="tcp://127.0.0.1:0")
cell.start()
cell.handler("task", "wait")(lambda request: threading.Event().wait())
if {at_work!r} != "idle": call = cell.request_future("server", "task", "wait", timeout_s=None)
if {at_work!r} == "waiting": threading.Thread(target=call.exception, daemon=True).start()
say("ready")
sys.stdin.read()
"""
    with Child(program) as child:
        child.expect("ready")
        assert child.ended() == 0


@pytest.mark.fault("P13")
@pytest.mark.row("L2")
def test_p13_a_forked_child_cannot_use_the_cell_and_its_parent_does_not_notice(trees: Trees) -> None:
    (server,) = trees.grow("server")
    server.handler("task", "echo")(lambda request: request.body)
    program = """
import warnings, signal
warnings.simplefilter("ignore", DeprecationWarning)
from zdl import ForkedCell
cell = Cell("site-1", parent=sys.argv[1], listen="tcp://127.0.0.1:0")
never = Cell("site-1.w0", parent="tcp://127.0.0.1:1")
closed = Cell("server", listen="tcp://127.0.0.1:0"); closed.start(); closed.close()
cell.start(); cell.wait_ready()
lent = cell.downloads.lend([b"x" * 100_000])
stop = threading.Event()
def load():
    while not stop.is_set(): cell.request("server", "task", "echo", b"x" * 1000)
threads = [threading.Thread(target=load) for _ in range(3)]
for thread in threads: thread.start()
reader, writer = os.pipe()
ids = []
for number in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        heard = []
        for call in (lambda: cell.request("server", "task", "echo", 1), lambda: cell.notice("server", "a", "b"),
                     lambda: cell.request_future("server", "a", "b"), lambda: cell.broadcast(["server"], "a", "b"),
                     lambda: cell.peers, lambda: cell.start(), lambda: cell.wait_ready(), lambda: cell.traffic,
                     lambda: cell.downloads.lend([b"x" * 100_000]), lambda: cell.incarnation):
            try: call()
            except ForkedCell as error: heard.append((error.fqcn, error.pid))
        facts = [heard == [("site-1", os.getppid())] * 10, "forked" in repr(cell), cell.close() == []]
        try: closed.request("server", "a", "b")
        except ForkedCell: facts.append(False)
        except Exception as error: facts.append(type(error).__name__ == "Closed")
        if number == 0:
            with Cell("site-9", parent=sys.argv[1]) as own: facts.append(own.request("server", "task", "echo", 7).body == 7)
        os.write(writer, (str(all(facts)) if all(facts) else str((facts, heard))).encode() + b"\\n")
        os._exit(0)
    ids.append(pid)
ends = [os.waitpid(pid, 0)[1] for pid in ids]
os.close(writer)
with os.fdopen(reader) as lines: told = [line.strip() for line in lines]
say("children", set(ends), set(told), len(told))
say("parent", cell.request("server", "task", "echo", 8).body, len(cell.downloads.transactions))
stop.set()
for thread in threads: thread.join()
say("closed", cell.close())
"""
    with Child(program, server.addresses[0]) as child:
        assert child.expect("children") == "{0} {'True'} 20"
        assert child.expect("parent") == "8 1"
        assert child.expect("closed") == "[]"
        assert child.ended() == 0


# --- the clock ----------------------------------------------------------------------------------

SHIFT = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
/* The wall clock, moved by as many seconds as a file says; every other clock as it is. */
static long moved(void) {
    char text[32];
    int file = syscall(SYS_openat, AT_FDCWD, getenv("CLOCK_FILE"), O_RDONLY, 0);
    long count = file < 0 ? 0 : syscall(SYS_read, file, text, sizeof text - 1);
    if (file >= 0) syscall(SYS_close, file);
    text[count > 0 ? count : 0] = 0;
    return count > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += moved();
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.mark.fault("P14")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, for a library that moves the wall clock")
def test_p14_a_wall_clock_that_jumps_ends_no_wait_and_loses_none(tmp_path: Path) -> None:
    (tmp_path / "shift.c").write_text(SHIFT)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", "shift.so", "shift.c"], cwd=tmp_path, check=True)
    clock = tmp_path / "clock"
    clock.write_text("0")
    program = f"""
import time
quick = Options(links=LinkOptions(heartbeat_s={BEAT_S}, redial_max_s=0.1))
server = Cell("server", listen="tcp://127.0.0.1:0", options=quick); server.start()
site = Cell("site-1", parent=server.addresses[0], options=quick); site.start(); site.wait_ready()
go_on = threading.Event()
server.handler("task", "echo")(lambda request: request.body)
server.handler("task", "wait")(lambda request: go_on.wait(60))
long_one = site.request_future("server", "task", "wait", timeout_s=60.0)
lent = site.downloads.lend([b"x" * 100_000], lease_s=600.0)
incarnation = [peer.state for peer in site.peers]
for seconds in (3600, -3600, 86400 * 365, -86400 * 365 * 30, 0):
    before, begun = time.time(), time.monotonic()
    open(sys.argv[1], "w").write(str(seconds))
    say("jumped", round(time.time() - before) // 1000 != 0 or seconds == 0, time.monotonic() - begun < 30)
    for number in range(20): assert site.request("server", "task", "echo", number, timeout_s=20.0).body == number
    try: site.request("server", "task", "wait", timeout_s=0.3)
    except TimeoutError as error: say("short", error.waited_s < 20)
    say("still", not long_one.done(), len(site.downloads.transactions), {{peer.state for peer in site.peers}})
go_on.set()
say("long", long_one.result(30).body)
site.close(); server.close()
"""
    with Child(program, str(clock), LD_PRELOAD=str(tmp_path / "shift.so"), CLOCK_FILE=str(clock)) as child:
        for _ in range(5):
            assert child.expect("jumped") == "True True"
            assert child.expect("short") == "True"
            assert child.expect("still") == "True 1 {'up'}"
        assert child.expect("long") == "True"
        assert child.ended() == 0
