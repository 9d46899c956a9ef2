"""Challenges: two lives claim one name; the one that is linked must show that it is alive.

::

    HELLO of another incarnation, the incumbent is UP ──▶ it is asked (HEARTBEAT, asks), the newcomer waits
        ├── anything is heard from the incumbent ───────▶ the newcomer is rejected: name-taken
        ├── nothing for challenge_s ────────────────────▶ the incumbent is hung up, the newcomer welcomed
        ├── the incumbent's link ends ──────────────────▶ the newcomer is welcomed
        ├── a later newcomer comes ─────────────────────▶ it waits instead
        └── the newcomer's connection ends ─────────────▶ nothing

So a cell that was restarted has its name again at once, also where the host of its former self vanished and
nobody told; and a second cell of that name is told who has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdl.options import LinkOptions
from zdl.protocol.effects import Effect, Hang, Send
from zdl.protocol.greeting import taken
from zdl.protocol.link import Link, LinkTable, State
from zdl.protocol.messages import Heartbeat, Hello, Reject


@dataclass(slots=True)
class Challenge:
    """One newcomer who waits for a name, and until when."""

    newcomer: int
    hello: Hello
    until: float
    is_answered: bool = False


class Challenges:
    """The challenges of one lane: at most one for each link that is up, by its number.

    Args:
        me: our FQCN.
        options: how long an incumbent has.
    """

    def __init__(self, me: str, options: LinkOptions) -> None:
        self._me = me
        self._options = options
        self._by_incumbent: dict[int, Challenge] = {}

    def __len__(self) -> int:
        return len(self._by_incumbent)

    def challenge(self, old: Link, newcomer: int, hello: Hello, now: float) -> list[Effect]:
        """A newcomer wants the name of the peer of `old`, who must show that it is alive; the newcomer waits."""
        standing = self._by_incumbent.get(old.link)
        if standing is None:
            self._by_incumbent[old.link] = Challenge(newcomer, hello, now + self._options.challenge_s)
            old.state = State.CHALLENGED
            return [Send(old.link, Heartbeat(self._me, True))]
        if standing.newcomer == newcomer:  # a doubled HELLO
            return []
        former, before = standing.newcomer, standing.hello
        standing.newcomer, standing.hello = newcomer, hello  # the latest life is the likeliest to be alive
        return [Hang(former)] if before.incarnation == hello.incarnation else self._reject(old, former, before)

    def against(self, incumbent: int) -> Challenge | None:
        """The challenge that this link has to answer, if there is one."""
        return self._by_incumbent.get(incumbent)

    def answered(self, incumbent: int) -> None:
        """The incumbent is heard: it is alive."""
        challenge = self._by_incumbent.get(incumbent)
        if challenge is not None:
            challenge.is_answered = True

    def won(self, old: Link) -> list[Effect]:
        """The incumbent is alive: who waits for its name is told so."""
        challenge = self.end(old.link)
        return [] if challenge is None else self._reject(old, challenge.newcomer, challenge.hello)

    def end(self, incumbent: int) -> Challenge | None:
        """It is decided. Returns what it was."""
        return self._by_incumbent.pop(incumbent, None)

    def withdrawn(self, newcomer: int, table: LinkTable) -> None:
        """A connection has ended that no link is known of: perhaps that of a newcomer who waits."""
        for number in [each for each, challenge in self._by_incumbent.items() if challenge.newcomer == newcomer]:
            del self._by_incumbent[number]
            incumbent = table.get(number)
            if incumbent is not None and incumbent.state is State.CHALLENGED:
                incumbent.state = State.UP

    def close(self) -> list[Effect]:
        """The cell closes: nobody waits any more."""
        waiting = [each.newcomer for each in self._by_incumbent.values()]
        self._by_incumbent.clear()
        return [Hang(each) for each in waiting]

    def due(self, table: LinkTable, now: float) -> list[tuple[Link, bool]]:
        """The incumbents for which it can be decided now, and whether they are alive."""
        decided = [(table.get(number), each.is_answered) for number, each in self._by_incumbent.items()
                   if each.is_answered or each.until <= now]
        return [(link, is_alive) for link, is_alive in decided if link is not None]

    def deadline(self) -> float | None:
        """When the first one is decided without an answer."""
        return min((each.until for each in self._by_incumbent.values()), default=None)

    def _reject(self, old: Link, newcomer: int, hello: Hello) -> list[Effect]:
        return [Send(newcomer, Reject(self._me, "name-taken", taken(self._me, old, hello))), Hang(newcomer)]
