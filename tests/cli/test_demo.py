"""The main job, with real processes: what it reports, and what happens when one of them dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from zdl.cli.demo import Shape

from waiting import eventually

LIMIT_S = 120


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return subprocess.run([sys.executable, "-m", "zdl", "demo", *arguments], capture_output=True, text=True, timeout=LIMIT_S)


def test_a_chain_of_relays_and_their_leaves_are_named_from_the_root() -> None:
    shape = Shape(2, 2)
    assert shape.relays == ["relay-1", "relay-1.relay-2"]
    assert shape.leaves == ["relay-1.relay-2.leaf-1", "relay-1.relay-2.leaf-2"]
    assert shape.below == [["relay-1"], ["relay-1.relay-2"], shape.leaves]
    assert Shape(0, 1).below == [["leaf-1"]]


@pytest.mark.parametrize(("flag", "way"), [("--same-host", "memory"), ("--no-same-host", "direct")])
def test_leaves_pull_from_the_origin_through_two_relays_that_hold_nothing(flag: str, way: str) -> None:
    done = demo("--size", "24M", "--hops", "2", "--leaves", "2", "--json", flag)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] and len(told["leaves"]) == 2
    for leaf in told["leaves"]:
        assert leaf["verified"] and leaf["way"] == way and leaf["bytes"] == 24 << 20
        assert leaf["path"] == ["server", "relay-1", "relay-1.relay-2", leaf["fqcn"]]
        assert leaf["gib_per_s"] > 0 and leaf["ratio_raw_tcp"] > 0
    cells = {each["fqcn"]: each for each in told["cells"]}
    for relay in ("relay-1", "relay-1.relay-2"):
        assert cells[relay]["payload_bytes_in"] == cells[relay]["payload_bytes_out"] == 0
        assert cells[relay]["rss_growth_bytes"] <= 16 << 20
    sent = 2 * (24 << 20) if way == "direct" else 0
    assert cells["server"]["payload_bytes_out"] == cells["server"]["payload_bytes_in"] >= sent


def test_without_relays_the_leaves_stand_below_the_server() -> None:
    done = demo("--size", "8M", "--hops", "0", "--leaves", "1")
    assert done.returncode == 0, done.stderr
    assert "leaf-1" in done.stdout and "bit for bit" in done.stdout
    assert "direct" in done.stdout and "see demo --same-host" in done.stdout


def test_real_files_travel_too(tmp_path: Path) -> None:
    save_file({"w": np.arange(300_000, dtype=np.float16), "empty": np.empty((0, 4), np.float32)}, tmp_path / "m.safetensors")
    np.savez(tmp_path / "n.npz", x=np.array(float("nan")), y=np.ones((3, 5), ">i4"))
    done = demo(str(tmp_path / "m.safetensors"), str(tmp_path / "n.npz"), "--leaves", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] and told["leaves"][0]["bytes"] == 600_000 + 8 + 60


def test_a_missing_file_is_a_usage_error_before_anything_starts() -> None:
    done = demo("/no/such/file.npz")
    assert done.returncode == 2 and "/no/such/file.npz" in done.stderr


@pytest.mark.fault("P1", "P3", "P4")
@pytest.mark.parametrize("who", ["leaf-2", "relay-1", "server"])
def test_a_death_in_the_middle_ends_it_with_the_name_of_who_died(who: str) -> None:
    running, cells = started("--size", "2G")
    victim = next(each for each in cells if name_of(each).endswith(who))
    victim.send_signal(signal.SIGKILL)
    _, error = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 1
    assert who in error and "killed by signal 9" in error and "Traceback" not in error
    assert_gone(cells)


def test_nothing_outlives_a_demo_that_is_killed() -> None:
    running, cells = started("--size", "2G")
    running.kill()
    running.communicate(timeout=LIMIT_S)
    assert_gone(cells)


def test_an_interrupt_ends_all_of_it() -> None:
    running, cells = started("--size", "2G")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=LIMIT_S)
    assert running.returncode == 130
    assert_gone(cells)


def started(*arguments: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A demo whose server has begun to make its state: two leaves, a relay and a server run."""
    running = subprocess.Popen([sys.executable, "-m", "zdl", "demo", *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    cells: list[psutil.Process] = []

    def all_run() -> bool:
        cells[:] = [each for each in psutil.Process(running.pid).children() if name_of(each)]
        return len(cells) == 4 and sum(each.cpu_times().user for each in cells) > 2.0

    eventually(all_run, timeout_s=LIMIT_S)
    return running, cells


def name_of(process: psutil.Process) -> str:
    """The cell that a process runs, or nothing."""
    try:
        line = process.cmdline()
    except psutil.Error:
        return ""
    return line[line.index("start") + 2] if "start" in line else ""


def assert_gone(cells: list[psutil.Process]) -> None:
    """None of these processes is left."""
    _, alive = psutil.wait_procs(cells, timeout=LIMIT_S)
    assert not alive
