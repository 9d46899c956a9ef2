"""Both ends of the pipe: answers, errors, and that no child outlives its parent."""

from __future__ import annotations

import io
import json
import mmap
import os
import signal
import subprocess
import sys

import pytest

from zdl_bench.meter import Meter
from zdl_bench.peer import Peer, role_named
from zdl_bench.processes import Child, PeerFailed

from waiting import eventually

ROLE = "zdl_bench.raw_rtt:Origin"


def is_running(pid: int) -> bool:
    """Whether there is such a process and it is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Parrot:
    """A role that says what it hears."""

    def say(self, *, word: str) -> dict[str, str]:
        return {"said": word}

    def fall(self) -> None:
        raise RuntimeError("off the perch")


def asked(command: str, **arguments: object) -> dict[str, object]:
    answer: dict[str, object] = json.loads(Peer(Parrot()).answer(json.dumps({"do": command, "with": arguments})))
    return answer


def test_a_command_calls_the_method_and_brings_its_answer() -> None:
    assert asked("say", word="hello") == {"ok": {"said": "hello"}}


def test_an_exception_travels_with_its_place() -> None:
    error = str(asked("fall")["error"])
    assert "off the perch" in error and "in fall" in error


def test_private_and_unknown_methods_are_no_commands() -> None:
    assert "is no command" in str(asked("_private")["error"])
    assert "AttributeError" in str(asked("fly")["error"])


def test_every_peer_can_be_metered_and_warmed() -> None:
    peer = Peer(Parrot())
    assert json.loads(peer.answer('{"do": "meter_start", "with": {}}')) == {"ok": {}}
    assert "cpu_s" in json.loads(peer.answer('{"do": "meter_read", "with": {}}'))["ok"]
    assert json.loads(peer.answer('{"do": "memory_warmed", "with": {"length": 4096}}')) == {"ok": {}}


def test_a_role_is_found_by_module_and_class() -> None:
    assert type(role_named("io:StringIO")) is io.StringIO


def test_the_meter_sees_memory_that_was_touched_and_given_back() -> None:
    meter = Meter()
    meter.start()
    size = 64 << 20
    with mmap.mmap(-1, size) as memory:  # from the system, not what malloc has kept
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1
    used = meter.read()
    assert used["cpu_s"] > 0
    if "peak_growth_bytes" in used:
        assert used["peak_growth_bytes"] > size * 0.9


def test_a_child_answers_fails_in_words_and_ends(capfd: pytest.CaptureFixture[str], tmp_path: object) -> None:
    with Child(ROLE) as child:
        pid = child.pid
        assert ":" in child.ask("start", scheme="tcp", folder=str(tmp_path))["address"]
        with pytest.raises(PeerFailed, match="unexpected keyword") as failure:
            child.ask("start", colour="red")
        assert (failure.value.role, failure.value.command) == (ROLE, "start")
        assert "running" in repr(child)
    assert not is_running(pid)
    child.stop()
    assert "ended 0" in repr(child)


def test_a_child_that_dies_is_reported_by_name() -> None:
    with Child(ROLE) as child:
        child.ask("meter_start")
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(PeerFailed, match=ROLE):
            child.ask("meter_read")


def test_a_child_that_was_never_started_cannot_be_asked() -> None:
    child = Child(ROLE)
    child.stop()
    assert "not started" in repr(child)
    with pytest.raises(PeerFailed, match="not running"):
        child.ask("stop")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc to look at processes")
def test_no_child_outlives_a_parent_that_is_killed() -> None:
    program = (f"from zdl_bench.processes import Child\nchild = Child({ROLE!r})\nchild.start()\n"
               "child.ask('meter_start')\nprint(child.pid, flush=True)\ninput()\n")
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    eventually(lambda: not is_running(pid))


def test_a_child_that_was_killed_is_put_away_without_being_asked(capfd: pytest.CaptureFixture[str]) -> None:
    with Child(ROLE) as child:
        child.kill()
        with pytest.raises(PeerFailed, match="it is not running"):
            child.ask("start")
    assert "ended" in repr(child) and not capfd.readouterr().err
