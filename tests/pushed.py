"""Two machines that push and take in, and what is on its way between them, for tests that play the network themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zdl.errors import ZdlError
from zdl.options import StreamOptions
from zdl.protocol import effects as asked
from zdl.protocol.intakes import Intakes
from zdl.protocol.messages import Body, Routed
from zdl.protocol.pushes import Opening, Pushes

SENDER, RECEIVER = "site-1", "server"
OPTIONS = StreamOptions(window_bytes=1000, stall_timeout_s=30.0, silent_timeout_s=20.0, lost_timeout_s=6.0, keep_alive_s=2.0,
                        intakes_max=3, pushes_max=4, tombstones_max=4)


class Pair:
    """A sender and a receiver."""

    def __init__(self, options: StreamOptions = OPTIONS) -> None:
        self.now = 0.0
        self.pushes = Pushes(SENDER, 7, options)
        self.intakes = Intakes(RECEIVER, options)
        self.wire: list[Routed] = []
        self.items: list[bytes] = []
        self.replies: list[Body] = []
        self.pushed: list[asked.PushSettled] = []
        self.taken: list[ZdlError | None] = []
        self.moved: list[asked.PushMoved] = []
        self.accepts = True
        self.consumes = True

    def start(self, **facts: object) -> int:
        """Begin a push."""
        opening = Opening(RECEIVER, "metrics", "round", "objects", **facts)  # type: ignore[arg-type]
        number, effects = self.pushes.start(opening, self.now)
        self.act(effects)
        return number

    def push(self, number: int, *items: bytes, timeout_s: float | None = None) -> None:
        """Push some."""
        self.act(self.pushes.push(number, [((each,), timeout_s) for each in items], self.now))

    def finish(self, number: int) -> None:
        """The end."""
        self.act(self.pushes.finish(number, self.now))

    def took(self, count: int, number: int = 7, reply: Body = ()) -> None:
        """So many are consumed."""
        self.act(self.intakes.took((SENDER, number), [reply] * count, self.now))

    def act(self, effects: Iterable[asked.Effect]) -> None:
        """Perform effects; what is posted waits on the wire."""
        for effect in effects:
            match effect:
                case asked.Post(message=message):
                    self.wire.append(message)
                case asked.PushMoved(replies=replies):
                    self.moved.append(effect)
                    self.replies += replies
                case asked.PushSettled():
                    self.pushed.append(effect)
                case asked.IntakeOpened(message=opening) if self.accepts:
                    self.act(self.intakes.accept((opening.origin, opening.id), None, self.now))
                case asked.IntakeArrived(key=key, items=items):
                    self.items += [b"".join(each) for each in items]
                    if self.consumes:
                        self.act(self.intakes.took(key, [(b"re " + b"".join(each)[:8],) for each in items], self.now))
                case asked.IntakeComplete(key=key):
                    self.taken.append(None)
                    self.act(self.intakes.finish(key, None, (b"result",)))
                case asked.IntakeSettled(error=error):
                    self.taken.append(error)
        self.pushes.check()
        self.intakes.check()

    def deliver(self, *, keep: Callable[[Routed], bool] = lambda message: True) -> None:
        """All that is on its way arrives, and what it causes; what is not kept is lost."""
        while self.wire:
            message = self.wire.pop(0)
            if keep(message):
                self.hand(message)

    def hand(self, message: Routed) -> None:
        """One message arrives."""
        machine = self.pushes if message.target == SENDER else self.intakes
        self.act(machine.receive(message, self.now))  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        """Time passes; deadlines are kept."""
        until = self.now + seconds
        while True:
            due = [each.deadline() for each in (self.pushes, self.intakes)]
            first = min((each for each in due if each is not None), default=float("inf"))
            if first > until:
                break
            self.now = max(self.now, first)
            self.act([*self.pushes.tick(self.now), *self.intakes.tick(self.now)])
            self.wire_in_time()
        self.now = until

    def wire_in_time(self) -> None:
        """What is said while time passes arrives at once; tests that cut the wire make it do nothing."""
        self.deliver()
