"""The deterministic simulation: many cells' machines, a virtual clock, a seeded network. One seed is one history.

::

    python -m sim --seeds 100000 --processes 2          # from tests/; prints the story of a seed that fails
    python -m sim --deaths --seeds 10000                # origins that die while others pull
    python -m sim --story --from 4711                   # one history, to be read

`simnet.Network` is the clock and the connections: messages are lost, doubled, delayed, reordered, corrupted; links are
cut or fall silent; partitions come and heal. `simcell.SimCell` is the shell around a cell's machines. `simworld.World`
is the cells and the books about what they were asked to do. `Sim` draws one history from its seed: a small tree, some
calls and pulls, some faults; runs it until it is quiet; and holds it against the promises of ``zdl.protocol``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

try:
    import zdl  # noqa: F401
except ImportError:  # run from tests/ of a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simbooks import CHALLENGE_S, CONTROL, DATA, IMPATIENT, LANES, Call, Noise, Push, Wire
from simcell import SimCell
from simdeaths import Deaths
from simlending import Lendings

from zdl.errors import Cancelled, NoRoute, PeerLost, RemoteError, TimedOut
from zdl.fqcn import ROOT, ancestors, is_within, parent
from zdl.protocol import effects as asked
from zdl.protocol.messages import Kind, Notice, Part

# How soon a cell that starts again has its place where its parent is there: its former self has its time to answer; and
# some latency. Where the parent was not there, one pause of redialling more.
PLACE_S = CHALLENGE_S + 0.1
LATER_S = PLACE_S + 0.8
# How long the news of the last link takes to the root: at each level what is collected, there and back.
TOLD_S = 5 * 0.05
# By now all calls and pulls of a history have begun.
BEGUN_S = 2.15
# No history is longer; what has not ended by then never will.
HISTORY_S = 120.0


class Stranger(SimCell):
    """Somebody who dials a cell directly, under a name of his choice, and hears nothing that goes to that name."""

    def receive(self, lane: int, link: int, header: bytes, body: tuple[Part, ...]) -> None:
        """Only what is about the link itself may come."""
        assert header[2] < Kind.REQUEST, f"a stranger who says that he is {self.fqcn} gets a {Kind(header[2]).name}"
        super().receive(lane, link, header, body)


class Sim(Lendings):
    """The history of one seed: a small tree, some calls and pulls, some faults, which then heal.

    Args:
        seed: the seed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed
        self.names.append(ROOT)
        self.faults_end = 0.0
        self.quiet_after = 0.0
        self._has_run = False

    @property
    def transcript(self) -> str:
        """The whole story of this seed."""
        if not self._has_run:
            self.run()
        return super().transcript

    def run(self) -> Sim:
        """Run the history to its end and hold it against the promises.

        Raises:
            AssertionError: a promise was broken; the story tells how.
        """
        self._has_run = True
        self.is_router_like = self.rng.random() < 0.5
        self.is_impatient = self.rng.random() < 0.15
        if self.is_impatient:
            self.options = IMPATIENT
        if self.rng.random() < 0.4:
            self.options = replace(self.options, links=replace(self.options.links, direct=False))
        self._plan_tree()
        self._plan_work()
        if self.rng.random() < 0.7:
            for _ in range(self.rng.choice((1, 1, 2, 3))):
                self._plan_fault()
        self.run_until(max(BEGUN_S, self.faults_end))
        while not self._is_quiet():
            assert self.now < HISTORY_S, "the history does not end"
            self.run_until(self.now + 0.1)
            if self.now > self.faults_end + 0.5:
                self._end_unused()
        self.run_until(max(self.now, self.quiet_after) + TOLD_S)
        self._verify()
        return self

    # --- the plan ---------------------------------------------------------------------------------

    def _plan_tree(self) -> None:
        rng = self.rng
        for index in range(rng.choice((1, 2, 3, 3, 4))):
            above = rng.choice(self.names)
            prefix = ("" if rng.random() < 0.8 else "server.") if above == ROOT else above + "."
            self.names.append(f"{prefix}c{index}")
        for name in rng.sample(self.names, len(self.names)):
            self.at(rng.random() * 0.1, self.start, name)

    def _plan_work(self) -> None:
        rng = self.rng
        for _ in range(rng.choice((1, 2, 3, 4))):
            self.at(0.2 + rng.random() * 1.4, self._some_call)
        for _ in range(rng.choice((0, 1, 1, 2))):
            self.at(0.2 + rng.random() * 1.2, self._some_lending)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            self.at(0.2 + rng.random() * 0.3, self._some_talk)
        if rng.random() < 0.3:
            self.at(0.2 + rng.random() * 1.3, self._some_stranger)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            self.at(0.2 + rng.random() * 1.2, self._some_push)

    def direct_addresses(self, fqcn: str) -> tuple[str, ...]:
        return super().direct_addresses(fqcn) if self.rng.random() < 0.7 else ()

    def _some_stranger(self) -> None:
        """Nobody has introduced him: on the control lane he is sent away, on the data lane he is a guest."""
        cell = self.cells.get(self.rng.choice(self.names))
        if cell is None:
            return
        stranger, lane = Stranger(self, self.rng.choice((*self.names, "ghost"))), self.rng.choice((CONTROL, DATA))
        address = cell.control_address if lane == CONTROL else cell.data_address
        _, effects = stranger.switches[lane].peers.dial(address, expected=cell.fqcn, now=self.now, token=b"x" * 16)
        stranger.act(lane, effects)

    def _some_talk(self) -> None:
        """Two cells that have much to say to each other: enough for a direct link, which is left in between."""
        one, other = self.rng.sample(self.names, 2)
        for _ in range(self.rng.choice((3, 4, 6, 8))):
            caller, target = (one, other) if self.rng.random() < 0.7 else (other, one)
            self.at(self.now + self.rng.random() * 1.6, self._talk, caller, target)

    def _talk(self, name: str, target: str) -> None:
        caller = self.cells.get(name)
        if caller is not None:
            self.call(caller, target, delay_s=self.rng.choice((0.0, self.rng.random() * 0.9)), timeout_s=8.0)

    def _some_call(self) -> None:
        rng = self.rng
        caller = self.cells.get(rng.choice(self.names))
        if caller is None:
            return
        target = rng.choice(self.names)
        if rng.random() < 0.15:
            target = "ghost" if target == ROOT else f"{target}.ghost"
        does = rng.choices(("reply", "raise", "sleep", "toil"), (8, 1, 1, 1))[0]
        number = self.call(caller, target, does=does, delay_s=rng.choice((0.0, rng.random() * 0.5)),
                           timeout_s=0.6 if rng.random() < 0.2 or does == "toil" else 8.0, trace=rng.random() < 0.2)
        if rng.random() < 0.1:
            self.at(self.now + rng.random() * 0.3, self.cancel_call, caller, number)
        if rng.random() < 0.2:
            notice = Notice(caller.fqcn, target, caller.calls.next_id(), "sim", "notice", {}, (b"news",))
            caller.act(CONTROL, [asked.Post(notice)])

    def _some_push(self) -> None:
        rng = self.rng
        sender = self.cells.get(rng.choice(self.names))
        if sender is None:
            return
        large = rng.random() < 0.3
        items = [bytes([index]) * (rng.choice((0, 10, 90_000)) if large else rng.choice((0, 1, 50, 5000)))
                 for index in range(rng.choice((0, 1, 5, 20, 60)))]
        targets = rng.sample(self.names, min(len(self.names), rng.choice((1, 1, 3))))
        key = self.push(sender, targets, items, gap_s=rng.choice((0.0, 0.0, 0.1)))
        if rng.random() < 0.1:
            self.at(self.now + rng.random() * 0.3, self.cancel_push, key)

    # --- the faults -------------------------------------------------------------------------------

    def _plan_fault(self) -> None:
        rng = self.rng
        begins = 0.2 + rng.random() * 1.6
        lasts = 0.1 + rng.random() * 1.9
        kind = rng.choices((self._some_noise, self._cut_some, self._mute_some, self._part_some, self._kill_some),
                           (3, 3, 2, 2, 3))[0]
        self.faults_end = max(self.faults_end, begins + lasts + 0.01)
        self.at(begins, kind, lasts)

    def _some_noise(self, lasts: float) -> None:
        rng = self.rng
        lanes = rng.choice(((True, True), (True, False), (False, True), (False, True)))
        rates = {name: rng.choice((0.0, 0.05, 0.15)) for name in ("lose", "double", "delay", "reorder")}
        self.noise = Noise(self.now + min(lasts, 1.0), lanes, corrupt=rng.choice((0.0, 0.2, 0.5)), **rates)
        if self.noise.lose:
            self.quiet_after = max(self.quiet_after, self.noise.until + 4.5)
        self.tell("network", "noise", repr(self.noise))

    def _a_wire(self) -> Wire | None:
        cell = self.cells.get(self.rng.choice(self.names))
        wires = [] if cell is None else [
            each for each in cell.all_wires if each.is_open and not each.is_mute and each.ends[1] is not None]
        return self.rng.choice(wires) if wires else None

    def _cut_some(self, lasts: float) -> None:
        wire = self._a_wire()
        if wire is not None and wire.held is None:
            self.tell("network", "cuts", str(wire))
            self.cut(wire)

    def _mute_some(self, lasts: float) -> None:
        wire = self._a_wire()
        if wire is not None and wire.held is None:
            self.tell("network", "mutes", str(wire))
            self.mute(wire)
            self.quiet_after = max(self.quiet_after, self.now + 5.0)

    def _part_some(self, lasts: float) -> None:
        if self.partition:
            return
        top = self.rng.choice(self.names[1:])
        names = frozenset(name for name in self.names if is_within(name, top))
        self.tell("network", "parts", sorted(names))
        self.part(names)
        self.at(self.now + min(lasts, 1.5), self._heal)
        self.quiet_after = max(self.quiet_after, self.now + 5.0)

    def _heal(self) -> None:
        is_broken = self.rng.random() < 0.5
        self.tell("network", "heals", f"is_broken={is_broken}")
        self.heal(is_broken=is_broken)

    def _kill_some(self, lasts: float) -> None:
        rng = self.rng
        cell = self.cells.get(rng.choice(self.names))
        if cell is None:
            return
        draw = rng.random()
        if draw < 0.2:
            self.close(cell)
        else:
            self.kill(cell, is_silent=draw < 0.55)
        self.quiet_after = max(self.quiet_after, self.now + 5.0)
        if rng.random() < 0.8:
            self.at(self.now + lasts, self._start_again, cell.fqcn)
        else:
            self.absent.add(cell.fqcn)

    def _start_again(self, name: str) -> None:
        if name in self.cells:
            return
        cell = self.start(name)
        self.quiet_after = max(self.quiet_after, self.now + LATER_S + 0.01)
        if parent(name) in self.cells and not self.partition and self.noise.until < self.now:
            self.at(self.now + PLACE_S, self._has_its_place, cell, self.now)
        if self.now <= self.faults_end:
            self.at(max(self.now, self.faults_end) + LATER_S, self._has_its_place, cell, self.now)
        if self.rng.random() < 0.5:
            for transaction in list(self.transactions.values()):
                if name in transaction.audience.names:
                    for source in transaction.sources:
                        self.at(self.now + self.rng.random() * 0.5, self._some_pull, name, source, None)

    def _has_its_place(self, cell: SimCell, started_at: float) -> None:
        """A cell that started again is let in within a bound, where nothing else happens meanwhile."""
        above = parent(cell.fqcn)
        if above is not None and above in self.cells and cell.is_alive and self.harmed_at < started_at:
            assert cell.control.routes.parent is not None, f"{cell.fqcn} started again and is not let in"

    # --- the end ----------------------------------------------------------------------------------

    def _is_quiet(self) -> bool:
        if self.now < self.quiet_after:
            return False
        if any(len(cell.calls) or len(cell.pulls) or len(cell.serving) for cell in self.cells.values()):
            return False
        if any(len(cell.pushes) or len(cell.intakes) for cell in self.cells.values()):
            return False
        return all(each.settled is not None or not each.origin.is_alive for each in self.transactions.values())

    def _verify(self) -> None:
        for (_, number), call in self.calls.items():
            if call.caller.is_alive:
                self._verify_call(number, call)
        for (_, number), pull in self.pulls.items():
            if pull.receiver.is_alive:
                self._verify_pull(number, pull)
                self._verify_stranger(number, pull)
        for (_, number), push in self.pushes.items():
            self._verify_push(number, push)
        for transaction in self.transactions.values():
            self._verify_transaction(transaction)
        for cell in self.cells.values():
            self._verify_cell(cell)
            self._verify_subtree(cell)

    def _verify_call(self, number: int, call: Call) -> None:
        what = f"call {number} of {call.caller.fqcn} to {call.target}"
        assert call.settled_at is not None, f"{what} never settles"
        if isinstance(call.error, (NoRoute, PeerLost)):
            assert call.error.target == call.target, f"{what} ends with an error about {call.error.target}"
        if call.is_cancelled:
            assert isinstance(call.error, Cancelled), f"{what} was cancelled and ends with {call.error!r}"
            return
        is_ghost = call.target.endswith("ghost")
        if call.is_sound:
            if is_ghost:
                assert isinstance(call.error, NoRoute), f"{what} ends with {call.error!r}"
                assert call.settled_at < call.started_at + 0.3, f"{what} is told late that there is no such cell"
            elif call.does == "sleep":
                assert isinstance(call.error, TimedOut), f"{what} ends with {call.error!r}"
            elif call.does == "raise":
                assert isinstance(call.error, RemoteError), f"{what} ends with {call.error!r}"
            else:
                assert call.reply is not None, f"nothing is in its way, but {what} ends with {call.error!r}"
                assert b"".join(call.reply.body) == b"packed \xff object" + b"\x00" * 8
        elif not call.has_parent and self.harmed_at < call.started_at and not self.absent and call.timeout_s > 4:
            is_late = call.settled_at > call.started_at + 7.5
            assert call.does == "sleep" or not is_late, f"{what} is not sent when the parent is back"
        # Where links break or fall silent but no message meets with an accident, somebody always knows and tells.
        elif not self.is_blurred and call.has_parent and call.timeout_s > 4 and call.does != "sleep":
            assert not isinstance(call.error, TimedOut), f"{what} is left to its timeout"

    def _verify_push(self, number: int, push: Push) -> None:
        what = f"push {number} of {push.sender.fqcn} to {push.target}"
        assert push.settled_at is not None or not push.sender.is_alive, f"{what} never settles"
        if push.receiver is not None and push.receiver.is_alive:
            assert push.taking_ended_at is not None, f"{what} never ends at its receiver"
        if push.settled_at is None or self.hurt_at <= push.settled_at or not push.has_way:
            return
        if push.is_cancelled:
            assert isinstance(push.error, Cancelled), f"{what} was cancelled and ends with {push.error!r}"
        else:
            assert push.error is None and push.taken == push.items, f"nothing is in its way, but {what} ends with {push.error!r}"

    def _verify_subtree(self, cell: SimCell) -> None:
        """Each cell knows who is below it: those with a living line of parents up to it."""
        below = {name for name in self.cells if name != cell.fqcn and cell.fqcn in ancestors(name) and all(
            above in self.cells for above in ancestors(name)[:ancestors(name).index(cell.fqcn)])}
        assert set(cell.subtree.names()) == below, f"{cell.fqcn} knows {cell.subtree.names()}, below it are {below}"

    def _verify_cell(self, cell: SimCell) -> None:
        """Nothing is left over."""
        name, now = cell.fqcn, self.now
        assert not any(map(len, (cell.calls, cell.pulls, cell.serving, cell.offers))), f"{name} has leftovers"
        for lane, switch in enumerate(cell.switches):
            switch.check()
            for link in switch.peers.links():
                wire = cell.wires[lane].get(link.link)
                assert wire is not None and wire.is_open, f"{name}: link {link} is closed"
                other = wire.ends[1 if wire.ends[0] is cell else 0]
                assert other is None or other.is_alive, f"{name}: link {link} leads to a dead cell"
            above = parent(name)
            if above in self.cells:
                over = self.cells[above]
                for one, other, link in ((cell, over, switch.peers.up(above)),
                                         (over, cell, over.switches[lane].peers.up(name))):
                    is_right = link is not None and link.incarnation == other.me.incarnation
                    assert is_right, f"{one.fqcn} has no {LANES[lane]} link to {other.fqcn}"
        for machine in (*cell.switches, cell.calls, cell.offers, cell.pulls, cell.dialling):
            when = machine.deadline()
            is_right = when is None or when > now - 1e-9
            assert is_right, f"{name}: {type(machine).__name__} wanted a tick at {when}, it is {now}"


# --- the command ----------------------------------------------------------------------------------


def trouble(seed: int, *, is_whole: bool = False, kind: type[Sim] | type[Deaths] = Sim) -> str:
    """What is wrong with the history of this seed, with its story; empty when nothing is."""
    sim = kind(seed)
    try:
        sim.run()
    except Exception as error:  # whatever a machine raises is a finding
        lines = list(sim.lines())
        story = "\n".join(lines if is_whole else lines[-400:])
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        return f"{story}\n{where}seed {seed}: {type(error).__name__}: {error}"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run many seeds; the exit status tells whether one failed."""
    parser = argparse.ArgumentParser(prog="python -m sim", description="Simulate many histories of the protocol.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--deaths", action="store_true", help="only of origins that die while others pull")
    parser.add_argument("--story", action="store_true", help="print the story of the first seed, and stop")
    given = parser.parse_args(arguments)
    if given.story:
        sim = Sim(given.first)
        wrong = trouble(given.first, is_whole=True)
        print(wrong or sim.transcript)
        return int(bool(wrong))
    began = time.monotonic()
    seeds = range(given.first, given.first + given.seeds)
    step = max(1, min(2000, given.seeds // 10))
    passed = 0
    with multiprocessing.Pool(given.processes) as pool:
        for wrong in pool.imap(partial(trouble, kind=Deaths) if given.deaths else trouble, seeds, chunksize=50):
            if wrong:
                print(f"{wrong}\n{passed} passed, 1 failed")
                return 1
            passed += 1
            if passed % step == 0:
                rate = passed / (time.monotonic() - began)
                print(f"{passed} of {given.seeds} seeds, {rate:.0f} seeds/s", flush=True)
    print(f"{passed} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
