"""Introductions: direct links of the control lane, asked for along the tree.

A cell that sends to one target again and again, which is not linked, asks it over the tree for an introduction::

    asker                                 asked
      │ INTRODUCE host, token, addresses ──▶ │   may I dial you, or will you dial me?
      │ ◀────── INTRODUCED token, addresses  │   dial one of these, and say this token in the HELLO
      │ HELLO direct, token ═══════════════▶ │   a link of its own, for the two alone
      │ ◀──────────── INTRODUCED (nothing)   │   or: I dial you, with your token
      │ ◀───────────── INTRODUCED why        │   or: no, and why

A token is made for one name, is good for one HELLO and a short time, and came over the tree, where names are
checked at every link. So the name in a direct HELLO is the name of who was asked, not of whoever can connect.

What is known about each target that was sent to::

    COUNTING ──so many within a while──▶ ASKED ──INTRODUCED──▶ DIALLING ──up──▶ LINKED ──idle, left──▶ COUNTING
       ▲                                   │ └──they dial──▶ EXPECTED ──up──▶ LINKED
       │                                   └── no, late, every address failed, the link lost ──▶ RESTING (remembers why)
       └──────────────────────────────────────────a growing pause─────────────────────────────────┘

Who is asked is EXPECTED until the token has run out, or DIALLING itself. Where both ask at the same time, the
question of the lesser name counts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from zdl.errors import ZdlError, from_wire
from zdl.fqcn import is_within
from zdl.options import LinkOptions
from zdl.protocol.frames import DATA_ADDRESSES_MAX, REASON_CHARS_MAX, TOKEN_BYTES
from zdl.protocol.link import Self
from zdl.protocol.messages import Bounce, Hello, Introduce, Introduced, Kind

# A pause is doubled at most so often.
DOUBLINGS_MAX = 4


@dataclass(frozen=True, slots=True)
class Knock:
    """Dial this address; who answers must be `fqcn`, and hears the token."""

    fqcn: str
    address: str
    token: bytes


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing was sent over the direct link to this cell for long: leave it."""

    fqcn: str


Step = Introduce | Introduced | Knock | Idle


class Stage(Enum):
    """How far it is with one cell."""

    COUNTING = "counting"
    ASKED = "asked"
    DIALLING = "dialling"
    EXPECTED = "expected"
    LINKED = "linked"
    RESTING = "resting"


# What takes one of the places for direct links.
_PLACES = frozenset({Stage.ASKED, Stage.DIALLING, Stage.EXPECTED, Stage.LINKED})


@dataclass(slots=True)
class _Contact:
    """What is known about one cell."""

    stage: Stage = Stage.COUNTING
    count: int = 0
    since: float = 0.0
    until: float | None = None
    why: str = ""
    failures: int = 0
    last_id: int = 0
    used_at: float = 0.0
    is_ours: bool = False
    number: int = 0
    token: bytes = b""
    answer: Introduced | None = None
    addresses: deque[str] = field(default_factory=deque)
    their_token: bytes = b""
    link: int = 0


class Introductions:
    """The direct links of one cell's control lane, and who may ask for one.

    Args:
        me: who we are, and where we listen.
        options: limits.
    """

    def __init__(self, me: Self, options: LinkOptions) -> None:
        self._me = me
        self._options = options
        self._contacts: OrderedDict[str, _Contact] = OrderedDict()
        self._knocks: dict[int, str] = {}
        self._numbers = 0
        self._due: float | None = None

    # --- what is asked of us --------------------------------------------------------------------

    def why(self, fqcn: str) -> str:
        """Why there is no direct link to this cell; empty where there is one."""
        known = self._contacts.get(fqcn)
        if known is not None and known.stage is Stage.LINKED:
            return ""
        if not self._options.direct:
            return f"direct links are off in {self._me.fqcn}"
        if known is not None and known.why:
            return known.why
        if known is not None and known.stage is not Stage.COUNTING:
            return "a direct link is being asked for"
        count = 0 if known is None else known.count
        return f"{count} of direct_after_count={self._options.direct_after_count} messages so far"

    def spared(self, name: str, beyond: bool) -> tuple[tuple[str, int], ...]:
        """Cells that are linked directly although a loss of `name` concerns them; see `Unreachable`."""
        return tuple((fqcn, known.last_id) for fqcn, known in self._contacts.items()
                     if known.stage is Stage.LINKED and is_within(fqcn, name) != beyond)

    def objection(self, hello: Hello, now: float) -> tuple[str, str] | None:
        """Why a direct HELLO is not welcome: the reason and its text; its token is used up."""
        known = self._contacts.get(hello.origin)
        if known is not None and known.token and known.until is not None and now <= known.until and (
                hmac.compare_digest(known.token, hello.token)):
            known.token = b""
            return None
        return "not-introduced", f"{hello.origin} was not introduced to {self._me.fqcn} over the tree, or too long ago"

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return self._due

    # --- what happens ---------------------------------------------------------------------------

    def sent(self, target: str, number: int, now: float) -> list[Step]:
        """A request or notice of this cell goes along the tree; `number` is its id."""
        known = self._contacts.get(target)
        if known is None:
            known = self._contact(target)
        known.last_id = number
        if known.stage is not Stage.COUNTING:
            return []
        if now >= known.since + self._options.direct_within_s:
            known.count, known.since = 0, now
        known.count += 1
        if known.count < self._options.direct_after_count:
            return []
        problem = self._full()
        if problem:
            return self._rest(known, problem, now)
        self._numbers += 1
        known.number, known.is_ours, known.why = self._numbers, True, ""
        self._wait(known, Stage.ASKED, now)
        known.token = self._token(target) if self._me.addresses else b""
        return [Introduce(self._me.fqcn, target, known.number, self._me.host, known.token,
                          self._me.addresses[:DATA_ADDRESSES_MAX])]

    def used(self, target: str, now: float) -> None:
        """A message of this cell goes over the direct link."""
        known = self._contacts.get(target)
        if known is not None:
            known.used_at = now

    def receive(self, message: Introduce | Introduced | Bounce, now: float) -> list[Step]:
        """A question, or an answer to ours."""
        match message:
            case Introduce():
                return self._asked(message, now)
            case Introduced():
                known = self._contacts.get(message.origin)
                if known is None or known.stage is not Stage.ASKED or known.number != message.id:
                    return []
                return self._answered(message, known, now)
            case Bounce():
                contact = next((each for each in self._contacts.values()
                                if each.stage is Stage.ASKED and each.number == message.id), None)
                if contact is None or message.of_kind != Kind.INTRODUCE:
                    return []
                error = from_wire(message.code, dict(message.facts), at=message.origin)
                return self._rest(contact, str(error), now)

    def knocking(self, fqcn: str, link: int) -> None:
        """The address of a `Knock` is dialled as this link."""
        self._knocks[link] = fqcn

    def failed(self, link: int, error: ZdlError, now: float) -> list[Step] | None:
        """A link that we dialled did not come up; None if it is none of ours."""
        fqcn = self._knocks.pop(link, None)
        if fqcn is None:
            return None
        known = self._contacts.get(fqcn)
        is_wanted = known is not None and known.stage is Stage.DIALLING
        return self._next_address(fqcn, known, now, str(error)) if known is not None and is_wanted else []

    def up(self, fqcn: str, link: int, now: float) -> None:
        """The direct link is there."""
        self._knocks.pop(link, None)
        known = self._contacts.get(fqcn) or self._contact(fqcn)
        known.stage, known.link, known.used_at, known.failures, known.why = Stage.LINKED, link, now, 0, ""
        known.until, known.answer = None, None
        if known.is_ours:
            self._at(now + self._options.direct_idle_s)

    def down(self, fqcn: str, link: int, why: str, now: float, *, is_clean: bool) -> None:
        """The direct link is no more."""
        known = self._contacts.get(fqcn)
        if known is None or known.stage is not Stage.LINKED or known.link != link:
            return
        known.link = 0
        if is_clean:
            known.stage, known.count, known.is_ours, known.why = Stage.COUNTING, 0, False, why
        else:
            self._rest(known, f"the direct link was lost: {why}", now)

    def tick(self, now: float) -> list[Step]:
        """What is late is given up, who has rested counts again, who is idle is left."""
        if self._due is None or now < self._due:
            return []
        self._due = None
        steps: list[Step] = []
        for fqcn, known in self._contacts.items():
            if known.stage is Stage.LINKED:
                idle_at = known.used_at + self._options.direct_idle_s
                if known.is_ours and now >= idle_at:
                    steps.append(Idle(fqcn))
                elif known.is_ours:
                    self._at(idle_at)
            elif known.until is not None and now >= known.until:
                steps += self._late(fqcn, known, now)
            elif known.until is not None:
                self._at(known.until)
        return steps

    def check(self) -> None:
        """All invariants; for simulation."""
        assert len(self._contacts) <= self._options.interest_max + self._options.direct_peers_max
        assert sum(each.stage in _PLACES for each in self._contacts.values()) <= self._options.direct_peers_max
        for each in self._contacts.values():
            assert (each.until is None) == (each.stage in (Stage.COUNTING, Stage.LINKED)), each
            assert each.until is None or self._due is not None and self._due <= each.until, each

    # --- inside ---------------------------------------------------------------------------------

    def _contact(self, fqcn: str) -> _Contact:
        """A new entry; the oldest one that matters little makes room for it."""
        while len(self._contacts) >= self._options.interest_max:
            victim = next((name for name, each in self._contacts.items() if each.stage not in _PLACES), None)
            if victim is None:
                break
            del self._contacts[victim]
        known = self._contacts[fqcn] = _Contact()
        return known

    def _full(self) -> str:
        """Why there cannot be another direct link; empty where there can."""
        count = sum(each.stage in _PLACES for each in self._contacts.values())
        most = self._options.direct_peers_max
        return f"{self._me.fqcn} has direct_peers_max={most} direct links" if count >= most else ""

    def _token(self, fqcn: str) -> bytes:
        """One that nobody can guess, for this cell and this time."""
        self._numbers += 1
        text = f"{self._numbers} {fqcn}".encode()
        return hashlib.blake2b(text, key=self._me.secret[:64], digest_size=TOKEN_BYTES).digest()

    def _asked(self, message: Introduce, now: float) -> list[Step]:
        origin = message.origin
        known = self._contacts.get(origin) or self._contact(origin)
        if known.answer is not None and known.answer.id == message.id:  # a doubled question
            return [known.answer]
        if known.stage is Stage.ASKED and self._me.fqcn < origin:  # both ask: ours counts
            return [self._answer(message)]
        problem = self._full() if known.stage not in _PLACES else ""
        if not self._options.direct:
            problem = f"direct links are off in {self._me.fqcn}"
        if problem:
            return [self._answer(message, why=problem)]
        usable = dialable(self._me.addresses, self._me.host, message.host)
        theirs = dialable(message.addresses, message.host, self._me.host)
        if not usable and not (theirs and message.token):
            return [self._answer(message, why=f"neither {self._me.fqcn} nor {origin} listens where the other could dial it")]
        known.is_ours, known.why = False, ""  # if we are linked, it has lost the link: ours gives way to the new one
        if usable:
            token = self._token(origin)
            self._wait(known, Stage.EXPECTED, now)
            known.token = token
            known.answer = self._answer(message, token=token, addresses=usable)
            return [known.answer]
        self._wait(known, Stage.DIALLING, now)
        known.addresses, known.their_token = deque(theirs), message.token
        known.answer = self._answer(message)
        return [known.answer, *self._next_address(origin, known, now, "")]

    def _answer(self, message: Introduce, *, token: bytes = b"", addresses: Iterable[str] = (), why: str = "") -> Introduced:
        return Introduced(self._me.fqcn, message.origin, message.id, token, tuple(addresses), why[:REASON_CHARS_MAX])

    def _answered(self, message: Introduced, known: _Contact, now: float) -> list[Step]:
        if message.why:
            return self._rest(known, message.why, now)
        if not message.addresses:  # they dial us, or have asked before us
            self._wait(known, Stage.EXPECTED, now)
            return []
        self._wait(known, Stage.DIALLING, now)
        known.addresses, known.their_token = deque(message.addresses), message.token
        return self._next_address(message.origin, known, now, "")

    def _next_address(self, fqcn: str, known: _Contact, now: float, why: str) -> list[Step]:
        if known.addresses:
            return [Knock(fqcn, known.addresses.popleft(), known.their_token)]
        return self._rest(known, why or "there is no address to dial", now)

    def _late(self, fqcn: str, known: _Contact, now: float) -> list[Step]:
        match known.stage:
            case Stage.RESTING:
                known.stage, known.count, known.since, known.until = Stage.COUNTING, 0, now, None
                return []
            case Stage.DIALLING if fqcn in self._knocks.values():  # the link itself has a limit, and says so
                self._wait(known, Stage.DIALLING, now)
                return []
            case _ if not known.is_ours:
                known.stage, known.until, known.token, known.answer = Stage.COUNTING, None, b"", None
                return []
        return self._rest(known, f"{fqcn} was asked, and there was no link within {self._options.introduction_s:.3g} s", now)

    def _wait(self, known: _Contact, stage: Stage, now: float) -> None:
        known.stage, known.until = stage, now + self._options.introduction_s
        self._at(known.until)

    def _rest(self, known: _Contact, why: str, now: float) -> list[Step]:
        """Stay with the tree for a while."""
        pause = self._options.direct_retry_s * 2.0 ** min(known.failures, DOUBLINGS_MAX)
        known.failures += 1
        known.stage, known.why, known.until, known.is_ours = Stage.RESTING, why, now + pause, False
        known.token, known.answer = b"", None
        self._at(known.until)
        return []

    def _at(self, when: float) -> None:
        self._due = when if self._due is None else min(self._due, when)


def dialable(addresses: Iterable[str], theirs: str, mine: str) -> tuple[str, ...]:
    """Those of a cell's addresses that another one may be able to dial, the nearest first.

    Args:
        addresses: where it listens.
        theirs: its host: ``MACHINE``, or ``MACHINE/PROCESS``.
        mine: that of who wants to dial.
    """
    is_same_process = theirs == mine and "/" in mine
    is_same_machine = bool(mine) and theirs.partition("/")[0] == mine.partition("/")[0]
    ranks: list[tuple[int, str]] = []
    for address in addresses:
        scheme, _, rest = address.partition("://")
        if scheme == "inproc" and is_same_process:
            ranks.append((0, address))
        elif scheme == "ipc" and is_same_machine:
            ranks.append((1, address))
        elif scheme == "tcp" and (is_same_machine or not _is_loopback(rest)):
            ranks.append((2, address))
    return tuple(address for _, address in sorted(ranks, key=lambda each: each[0]))


def _is_loopback(rest: str) -> bool:
    host = rest.rpartition(":")[0].strip("[]").lower()
    return host == "localhost" or host == "::1" or host.startswith("127.")
