"""Releasing: what is lent to receivers some of which die is let go of in every round, and the origin's memory comes back.

The full length is for ``ZDL_SYSTEM=1 python -m pytest -m system tests/download/test_releasing.py``: 200 rounds of 64 MiB.
"""

from __future__ import annotations

import gc
import os
import sys
import weakref
from contextlib import ExitStack

import numpy as np
import pytest

from zdl.assembly import Cell, process_facts
from zdl.download.downloadable import Downloadable, ProduceRC
from zdl.errors import OriginFailed
from zdl.options import OfferOptions, Options
from zdl.protocol.effects import Outcome

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
# What is lent in one round at full length, and how far the memory may be from where it began.
ROUND_BYTES = 64 * MIB
OPTIONS = Options(offers=OfferOptions(lost_grace_s=0.5, segments_kept_s=0.5))
LEAVES = """
cells = [Cell(name, parent=sys.argv[1]) for name in sys.argv[2:]]
for cell in cells:
    cell.start()
    cell.wait_ready(60)
say("ready")
"""
# Two that get all of it, in every round.
SURVIVORS = LEAVES + """
for line in sys.stdin:
    for cell in cells:
        assert cell.downloads.resolve(cell.downloads.find("server", "round"))["weights"][-1] == 1.0
    say("have", "it")
"""
# Two that get half of it, and are killed.
MORTALS = LEAVES + """
sys.stdin.readline()
for cell in cells:
    weights = cell.downloads.find("server", "round")["weights"]
    cell.downloads.pull(weights[:weights.shape[0] // 2])
say("begun")
stay()
"""


def played(rounds: int, nbytes: int) -> int:
    """Lends in every round to four leaves, two of which die in it. Returns by how much the origin has grown."""
    with ExitStack() as stack:
        server, = stack.enter_context(Trees()).grow("server", options=OPTIONS)
        address = server.addresses[0]
        survivors = stack.enter_context(Child(SURVIVORS, address, "leaf-0", "leaf-1"))
        survivors.expect("ready")
        one_round(server, address, survivors, number=0, nbytes=nbytes)  # what the first one allocates is not given back
        gc.collect()
        start = process_facts().rss_bytes
        for number in range(1, rounds + 1):
            one_round(server, address, survivors, number=number, nbytes=nbytes)
        grown, = eventually(lambda: [] if abs(now := process_facts().rss_bytes - start) > ROUND_BYTES else [now],
                            what="the memory of the start")
        sys.stderr.write(f"\n{rounds} rounds: memory {grown / MIB:+.1f} MiB from the start\n")
        return grown


def one_round(server: Cell, address: str, survivors: Child, *, number: int, nbytes: int) -> None:
    mortal = [f"mortal-{number}-{each}" for each in range(2)]
    weights = np.ones(nbytes // 8)
    alive = weakref.ref(weights)
    with Child(MORTALS, address, *mortal) as dying:
        dying.expect("ready")
        lent = server.downloads.lend({"weights": weights}, receivers=["leaf-0", "leaf-1", *mortal])
        del weights
        server.downloads.publish("round", lent.body)
        dying.say("pull")
        dying.expect("begun")
        dying.kill()
    survivors.say("pull")
    survivors.expect("have")
    outcome = lent.wait(PATIENCE_S)
    assert outcome.outcome is Outcome.PARTIAL and sorted(outcome.finished) == ["leaf-0", "leaf-1"]
    assert [outcome.receivers[name] for name in mortal] == [Outcome.LOST, Outcome.LOST]
    assert server.downloads.transactions == []
    server.downloads.publish("round", None)
    del lent, outcome
    eventually(lambda: gc.collect() >= 0 and alive() is None, what="the release of what was lent")


def test_what_is_lent_to_leaves_that_die_is_released_in_every_round() -> None:
    assert abs(played(1, 4 * MIB)) <= ROUND_BYTES


class Told(Downloadable):
    """Three pieces, and what was called, in order."""

    def __init__(self, *, is_broken: bool) -> None:
        super().__init__(object())
        self.calls: list[str] = []
        self._is_broken = is_broken

    def produce(self, state: dict[str, object], requester: str) -> tuple[str, object, dict[str, object]]:
        if self._is_broken:
            raise ValueError("broken")
        number = len(state)
        return (ProduceRC.EOF, None, {}) if number == 3 else (ProduceRC.OK, number, {**state, str(number): number})

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.calls.append(f"one {status}")

    def downloaded_to_all(self) -> None:
        self.calls.append("all")

    def transaction_done(self, transaction_id: str, status: str) -> None:
        self.calls.append(f"done {status}")

    def release(self) -> None:
        self.calls.append("release")
        super().release()


@pytest.mark.parametrize(("how", "calls"), [
    ("finished", ["one success", "all", "done finished", "told", "release"]),
    ("failed", ["one failed", "done finished", "told", "release"]),
    ("deleted", ["one failed", "done deleted", "told", "release"]),
    ("expired", ["one failed", "done timeout", "told", "release"]),
    ("closed", ["one failed", "done deleted", "told", "release"])])
def test_at_every_kind_of_end_all_is_called_in_order_and_once(trees: Trees, how: str, calls: list[str]) -> None:
    server, site = trees.grow("server", "site-1", scheme="inproc")
    object_lent = Told(is_broken=how == "failed")
    with server.downloads.transaction(
            receivers=["site-1"], lease_s=1.0 if how == "expired" else 60.0,
            on_done=lambda *told: object_lent.calls.append("told")) as lent:
        ref = lent.add(object_lent)
    if how == "deleted":
        lent.delete()
        lent.delete()
    elif how == "closed":
        server.close()
    elif how == "finished":
        assert site.downloads.pull(ref) == [0, 1, 2]
    elif how == "failed":
        with pytest.raises(OriginFailed):
            site.downloads.pull(ref)
    assert lent.wait(PATIENCE_S).outcome.value == how
    eventually(lambda: "release" in object_lent.calls, what="the release")
    server.close()  # after this nothing is called any more
    assert object_lent.calls == calls and object_lent.base_obj is None


@pytest.mark.system
@pytest.mark.skipif("ZDL_SYSTEM" not in os.environ, reason="it takes minutes: ZDL_SYSTEM=1")
def test_after_200_rounds_of_64_mib_the_origin_is_back_to_its_start() -> None:
    assert abs(played(int(os.environ.get("ZDL_SYSTEM_ROUNDS", "200")), ROUND_BYTES)) <= ROUND_BYTES
