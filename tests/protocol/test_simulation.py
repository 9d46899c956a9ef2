"""Simulation: some hundred histories with every test run; ``python -m sim --seeds 100000`` runs as many as you like."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from simbooks import DATA
from simworld import World

from zdl.protocol.messages import Kind
from zdl.protocol.offers import Audience
from zdl.protocol.trace import untraced

import sim
from sim import Sim, main, trouble

BLOCK = 50


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("first", range(0, 300, BLOCK))
def test_every_promise_holds_in_these_histories(first: int) -> None:
    for seed in range(first, first + BLOCK):
        wrong = trouble(seed)
        assert not wrong, wrong


def test_one_seed_is_one_history() -> None:
    for seed in (3, 4, 5):
        assert digest(Sim(seed).transcript) == digest(Sim(seed).transcript)
    assert Sim(3).transcript != Sim(4).transcript


def test_one_seed_is_one_history_in_every_process() -> None:
    code = ("import hashlib, sim\n"
            "print(hashlib.sha256(''.join(sim.Sim(seed).transcript for seed in range(12)).encode()).hexdigest())")
    tests = Path(sim.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tests, capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(tests.parent)})
    assert done.stdout.strip() == digest("".join(Sim(seed).transcript for seed in range(12)))


def test_the_histories_are_not_empty() -> None:
    """What the promises are about really happens: all kinds of messages, of faults, and of ends."""
    seen: Counter[str] = Counter()
    for seed in range(160):
        history = Sim(seed).run()
        seen.update(Kind(untraced(what[2][2])).name for _, _, mark, what in history.story if mark == "<")  # type: ignore[index]
        seen.update(f"network {mark}" for _, who, mark, _ in history.story if who == "network")
        seen.update(type(call.error).__name__ for call in history.calls.values() if call.error is not None)
        seen.update("reply" for call in history.calls.values() if call.reply is not None)
        seen.update(f"pull {type(pull.error).__name__}" for pull in history.pulls.values() if pull.is_settled)
        seen.update(f"sound {call.does}" for call in history.calls.values() if call.is_sound)
        seen.update(f"receiver {outcome.value}" for each in history.transactions.values() for _, outcome, _, _ in each.told)
        seen.update(f"{each.settled.outcome.value} {each.settled.why}".strip() for each in history.transactions.values()
                    if each.settled is not None)
        seen.update("pieces" for each in history.lendings.values() if each.had_by)
    assert {kind.name for kind in Kind} - set(seen) <= {"KEEP"}
    for each in ("loses", "doubles", "delays", "reorders", "corrupts", "cuts", "mutes", "parts", "heals"):
        assert seen[f"network {each}"], f"nothing {each}"
    assert {"NoRoute", "PeerLost", "TimedOut", "Cancelled", "RemoteError"} <= set(seen)
    assert {"pull Refused", "pull SourceChanged", "pull DiskFull", "pull LeaseEnded", "pieces", "failed source-changed",
            *(f"receiver {each}" for each in ("finished", "failed", "cancelled", "expired")),
            *("finished", "partial", "failed", "expired", "deleted")} <= set(seen)
    assert seen["reply"] > 60 and seen["sound reply"] > 50 and seen["pull NoneType"] > 60


def test_two_cells_that_pull_from_each_other_directly_have_a_link_each_and_ask_over_their_own() -> None:
    class Even(World):
        latency_s = (0.001, 0.0)

    world = Even(1)
    for name in ("server", "site-1", "site-2"):
        world.start(name)
    world.run_until(0.2)
    one, other = world.cells["site-1"], world.cells["site-2"]
    lent = [world.lend(cell, [1000], Audience()) for cell in (one, other)]
    world.pull(one, lent[1].sources[0], is_direct=True)
    world.pull(other, lent[0].sources[0], is_direct=True)
    world.run_until(5.0)
    assert all(pull.is_settled and pull.error is None for pull in world.pulls.values())
    assert len(world.wires_between("site-1", "site-2", DATA)) == 2, "who was dialled is a guest, and no way to its name"
    assert one.data.peers.up("site-2") is not None and other.data.peers.up("site-1") is not None


def test_a_promise_that_is_broken_is_told_with_the_story_of_its_seed() -> None:
    class Broken(Sim):
        def _verify(self) -> None:
            raise AssertionError("as if a call never settled")

    wrong = trouble(3, kind=Broken)
    assert wrong.splitlines()[-1] == "seed 3: AssertionError: as if a call never settled"
    assert "HELLO" in wrong


def test_the_command_runs_seeds_and_tells_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "20", "--from", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "20 passed, 0 failed"
    assert "seeds/s" in lines[0]


def test_the_command_tells_one_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--story", "--from", "5"]) == 0
    assert "HELLO" in capsys.readouterr().out
