"""Scenarios: conversations to be read. Each ``*.txt`` has blocks of commands, ``----``, and the exact transcript.

Blank lines end a block, ``#`` begins a remark, and what a block began goes on in the next one. Heartbeats are not
shown. After a change that is meant: ``ZDL_REWRITE=1 pytest tests/scenarios``, and read the difference.

==================================================== ==================================================================
``start NAME``                                        a cell starts, and dials its parent
``start NAME under PARENT``                           the same, at the address of another cell
``start NAME speaking VERSION``                       the same, with a HELLO of another version
``twin NAME``                                         a second cell with that name starts
``intrude NAME at CELL [data]``                       a stranger with that name dials a cell directly
``direct``                                            cells that start from now on ask for direct links
``alone``                                             cells that start from now on cannot be dialled directly
``way ONE OTHER``                                     tells how messages of one cell go to the other, and why
``close NAME``; ``kill NAME``; ``kill NAME silently`` a cell ends
``pause ONE OTHER``; ``resume ONE OTHER``             what they say on their control link waits on the way
``late KIND SECONDS``                                 the next message of that kind is so late
``cut ONE OTHER``; ``mute ONE OTHER``                 their control link breaks, or carries nothing any more
``call ONE OTHER [raise|sleep|toil] [timeout S]``     a call; ``traced``: that writes down its way
``forge ONE as ORIGIN to TARGET [after HOPS]``        ONE sends its parent a request with that name as its origin
``claim ONE NAME…``                                   ONE tells its parent that these are below it
``tree NAME``                                         tells who is below it, as it knows
``watch``                                             what is told about the tree, and no more, is shown from now on
``lend NAME BYTES to RECEIVER…``                      an offer, for these receivers
``end NAME``                                          the last offer of that cell ends
``pull NAME [directly]``                              NAME pulls the last offer
``push ONE OTHER BYTES… [refused|asleep|failing]``    ONE streams items of these sizes to OTHER, which takes them so
``break ONE``                                         ONE breaks its last stream off
``meddle THIRD ONE``                                  THIRD tells ONE that its last stream has ended, as if it took that in
``lose KIND``; ``double KIND``; ``corrupt KIND``      what happens to the next message of that kind
``run SECONDS``                                       time passes
``links NAME``                                        tells its control links and how they stand
``hide``                                              what has happened so far is not shown
==================================================== ==================================================================
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from simbooks import CONTROL, DATA, IMPATIENT, LANES, Transaction, Wire
from simcell import SimCell
from simworld import World

from zdl.errors import Closed, ZdlError, to_wire
from zdl.protocol.decode import decode
from zdl.protocol.effects import CallSettled, Post, Send
from zdl.protocol.messages import Below, Kind, Part, Request
from zdl.protocol.offers import Audience
from zdl.protocol.pushing import Ended
from zdl.protocol.trace import untraced

FOLDER = Path(__file__).parent
HIDDEN = frozenset({"origin", "target", "body", "hops", "incarnation", "secret", "headers", "digest"})
SHOWN = frozenset({
    "PeerUp", "PeerDown", "PeerStalled", "PeerBack", "DialFailed", "Unreachable", "Handle", "Abort", "Progressed",
    "ReceiverSettled", "CallProgressed", "CallSettled", "PullSettled", "TransactionSettled", "Chosen",
    "PushSettled", "IntakeOpened", "IntakeComplete", "IntakeSettled"})


class Stage(World):
    """A world without chance: one millisecond from cell to cell, ids that count up, accidents on command."""

    latency_s = (0.001, 0.0)
    is_thorough = True

    def __init__(self) -> None:
        super().__init__(0, replace(IMPATIENT, links=replace(IMPATIENT.links, direct=False)))
        self._are_alone = False
        self.is_router_like = True
        self._drawn = 0
        self._told = 0
        self._accidents: list[tuple[str, Kind]] = []
        self._speaks: dict[str, int] = {}
        self._lent: list[tuple[SimCell, Transaction]] = []
        self._last_push = ("", 0)
        self._hides = {Kind.HEARTBEAT, Kind.BELOW}
        self._shows = SHOWN

    def draw_bytes(self, length: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(2, "big") + bytes(length - 2)

    def draw_id(self) -> int:
        self._drawn += 1
        return self._drawn * 100

    def direct_addresses(self, fqcn: str) -> tuple[str, ...]:
        return () if self._are_alone else super().direct_addresses(fqcn)

    def reading_s(self) -> float:
        return 0.0

    def storing_s(self) -> float:
        return 0.0

    def transmit(self, wire: Wire, to: int, header: bytes, body: tuple[Part, ...]) -> None:
        cell = wire.ends[1 - to]
        kind = Kind(untraced(header[2]))
        if kind is Kind.HELLO and cell is not None and cell.fqcn in self._speaks:
            header = msgpack.packb([self._speaks[cell.fqcn], *msgpack.unpackb(header)[1:]])
        accident = next((each for each in self._accidents if each[1] is kind), None)
        if accident is not None:
            self._accidents.remove(accident)
            what, _, seconds = accident[0].partition(" ")
            self.tell("network", "", f"holds a {kind.name} for {seconds} s" if seconds else f"{what}s a {kind.name}")
            if accident[0] == "lose":
                return
            if accident[0].startswith("late "):
                self.at(self.now + float(accident[0].split()[1]), self.deliver, wire, to, header, body)
                return
            if accident[0] == "double":
                super().transmit(wire, to, header, body)
            if accident[0] == "corrupt":
                body = (b"\x00" * len(body[0]), *body[1:])
        super().transmit(wire, to, header, body)

    # --- commands ---------------------------------------------------------------------------------

    def play(self, command: str) -> None:
        """One command."""
        verb, *words = command.split()
        getattr(self, f"_play_{verb}")(*words)

    def _play_start(self, name: str, how: str = "", what: str = "") -> None:
        if how == "speaking":
            self._speaks[name] = int(what)
        if how == "under":
            cell = SimCell(self, name)
            self.cells[name] = cell
            cell.act(CONTROL, cell.control.dial_parent(f"control:{what}", self.now))
        else:
            self.start(name)

    def _play_twin(self, name: str) -> None:
        cell, twin = self.cells[name], self.start(name)
        twin.fqcn = f"{name}(twin)"
        self.cells[name] = cell

    def _play_intrude(self, name: str, _at: str, at: str, how: str = "") -> None:
        lane = LANES.index(how or "control")
        stranger = SimCell(self, name)
        address = self.cells[at].data_address if how else f"control:{at}"
        _, effects = stranger.switches[lane].peers.dial(address, expected=at, now=self.now)
        stranger.fqcn = f"{name}(stranger)"
        stranger.act(lane, effects)

    def _play_direct(self) -> None:
        self.options = replace(self.options, links=replace(self.options.links, direct=True))

    def _play_alone(self) -> None:
        self._are_alone = True

    def _play_way(self, one: str, other: str) -> None:
        way = self.cells[one].control.way_of(other, self.now)
        self.tell(one, "", f"to {other}: {way.role} {way.via}{way.why and ', ' + way.why}")

    def _play_close(self, name: str) -> None:
        self.close(self.cells[name])

    def _play_kill(self, name: str, how: str = "") -> None:
        self.kill(self.cells[name], is_silent=how == "silently")

    def _play_cut(self, one: str, other: str) -> None:
        for wire in self.wires_between(one, other, CONTROL):
            self.cut(wire)

    def _play_mute(self, one: str, other: str) -> None:
        for wire in self.wires_between(one, other, CONTROL):
            self.mute(wire)

    def _play_call(self, one: str, other: str, *how: str) -> None:
        timeout_s = float(how[how.index("timeout") + 1]) if "timeout" in how else 5.0
        does = next((each for each in how if each in ("raise", "sleep", "toil")), "reply")
        self.call(self.cells[one], other, does=does, timeout_s=timeout_s, trace="traced" in how)

    def _play_forge(self, one: str, _as: str, origin: str, _to: str, target: str, *after: str) -> None:
        hops = int(after[1]) if after else 0
        self._send_up(one, Request(origin, target, 1, "sim", "reply", 5.0, {"delay_s": 0.0}, hops=hops))

    def _play_claim(self, one: str, *names: str) -> None:
        self._send_up(one, Below(one, 0, (), names))

    def _send_up(self, one: str, message: Request | Below) -> None:
        link = self.cells[one].control.routes.parent
        assert link is not None
        self.cells[one].act(CONTROL, [Send(link, message)])

    def _play_tree(self, name: str) -> None:
        self.tell(name, "", f"below it: {', '.join(sorted(self.cells[name].subtree.names())) or 'nobody'}")

    def _play_watch(self) -> None:
        self._hides = set(Kind) - {Kind.BELOW}
        self._shows = frozenset({"SubtreeUp", "SubtreeDown"})

    def _play_lend(self, name: str, size: str, _: str, *receivers: str) -> None:
        origin = self.cells[name]
        transaction = self.lend(origin, [int(size)], Audience(names=frozenset(receivers)), lease_s=20.0)
        self._lent.append((origin, transaction))

    def _play_end(self, name: str) -> None:
        self.end(next(transaction for cell, transaction in reversed(self._lent) if cell.fqcn == name))

    def _play_pull(self, name: str, how: str = "") -> None:
        self.pull(self.cells[name], self._lent[-1][1].sources[0], is_direct=how == "directly")

    def _play_push(self, one: str, other: str, *sizes: str) -> None:
        how = sizes[-1] if sizes[-1].isalpha() else ""
        items = [bytes([index]) * int(size) for index, size in enumerate(sizes[:-1] if how else sizes)]
        self._last_push = self.push(self.cells[one], [other], items, how=how)

    def _play_break(self, one: str) -> None:
        assert self._last_push[0] == one
        self.cancel_push(self._last_push)

    def _play_meddle(self, third: str, one: str) -> None:
        ended = Ended(third, one, self._last_push[1], 0, *to_wire(Closed(fqcn=third)))
        self.cells[third].act(DATA, [Post(ended)])

    def _play_lose(self, kind: str) -> None:
        self._accidents.append(("lose", Kind[kind]))

    def _play_double(self, kind: str) -> None:
        self._accidents.append(("double", Kind[kind]))

    def _play_corrupt(self, kind: str) -> None:
        self._accidents.append(("corrupt", Kind[kind]))

    def _play_late(self, kind: str, seconds: str) -> None:
        self._accidents.append((f"late {seconds}", Kind[kind]))

    def _play_pause(self, one: str, other: str) -> None:
        for wire in self.wires_between(one, other, CONTROL):
            wire.held = []

    def _play_resume(self, one: str, other: str) -> None:
        for wire in self.wires_between(one, other, CONTROL):
            held, wire.held = wire.held or [], None
            for each in held:
                self.transmit(wire, *each)

    def _play_run(self, seconds: str) -> None:
        self.run_until(self.now + float(seconds))

    def _play_links(self, name: str) -> None:
        for link in self.cells[name].control.peers.links():
            self.tell(name, "", f"link {link.link} to {link.fqcn} is {link.state.name}")

    def _play_hide(self) -> None:
        self._told = len(self.story)

    # --- the transcript ---------------------------------------------------------------------------

    def news(self) -> list[str]:
        """What has happened since this was asked the last time."""
        found = []
        for when, who, mark, what in self.story[self._told:]:
            line = f"{when:.3f} {who}"
            if mark == "<":
                lane, sender, header, body = what  # type: ignore[misc]
                if header[2] not in self._hides:
                    by = sender.fqcn if lane == LANES[CONTROL] else f"{sender.fqcn} (data)"
                    found.append(f"{line} < {by}: {self._message(header, body)}")
            elif mark == "broken" and self._shows is SHOWN:
                found.append(f"{line}: {what[0]} link {what[1]} is broken: {what[2]}")  # type: ignore[index]
            elif type(what).__name__ in self._shows:
                found.append(f"{line}{' (data)' if mark == 'data' else ''} = {fields(what)}")
            elif mark in ("", "!") or isinstance(what, str):
                found.append(f"{line}: {what}")
        self._told = len(self.story)
        return found

    def _message(self, header: bytes, body: tuple[Part, ...]) -> str:
        target = msgpack.unpackb(header)[4]
        message = decode(header, body, me=target)
        size = f" + {sum(map(len, body))} bytes" if body else ""
        way = f" {message.origin} → {target}" if target else ""  # type: ignore[union-attr]
        return f"{message.kind.name}{way}{fields(message, shows_name=False)}{size}"  # type: ignore[union-attr]


def fields(value: object, *, shows_name: bool = True) -> str:
    """A message or an effect, the fields that matter one after the other."""
    assert dataclasses.is_dataclass(value) and not isinstance(value, type)
    shown = type(value).__name__ if shows_name else ""
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        if isinstance(value, CallSettled) and field.name == "reply" and held is not None:
            held = "good" if held.route is None else f"good, by {' '.join(held.route)}"
        is_plain = held in ("", (), None, b"") or held == {} or held == field.default
        if field.name not in HIDDEN and not is_plain:
            shown += f" {field.name}={plain(held)}"
    return shown


def plain(value: object) -> str:
    """A value in a transcript."""
    match value:
        case ZdlError():
            return f"{type(value).__name__}({value})"
        case bytes():
            return value[:2].hex()
        case Mapping():
            return "{" + ", ".join(f"{name}: {plain(each)}" for name, each in value.items()) + "}"
        case tuple() | list():
            return "[" + ", ".join(plain(each) for each in value) + "]"
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return fields(value)
        case _:
            return str(getattr(value, "name", value))


def performed(text: str) -> str:
    """The scenario with the transcript that it really has."""
    stage, shown = Stage(), []
    for block in text.rstrip().split("\n\n"):
        commands = block.split("\n----")[0].split("\n")
        for command in commands:
            if command and not command.startswith("#"):
                stage.play(command)
        news = stage.news()
        is_remark = all(command.startswith("#") for command in commands)
        shown.append("\n".join([*commands, "----", *news] if news or not is_remark else commands))
    return "\n\n".join(shown) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_conversation_is_as_it_was_written_down(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    found = performed(written)
    if os.environ.get("ZDL_REWRITE"):
        path.write_text(found, encoding="utf-8")
        written = found
    assert found == written
    assert performed(written) == found, "the same commands give the same transcript"
