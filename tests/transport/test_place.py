"""Place: who can dial whom, and where a process runs."""

from __future__ import annotations

import os
import subprocess
import sys

from zdl.transport.place import host, place


def test_this_process_is_named_for_people() -> None:
    assert place().startswith(f"pid {os.getpid()} on ") and not place().endswith(" ")


def test_one_process_is_one_place_and_another_one_is_on_the_same_machine() -> None:
    code = "from zdl.transport.place import host; print(host(shares_memory=True))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    machine, _, process = host(shares_memory=True).partition("/")
    assert process == str(os.getpid())
    assert other.partition("/")[0] == machine == host(shares_memory=False)
    assert other != host(shares_memory=True)
