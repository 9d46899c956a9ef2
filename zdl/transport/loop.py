"""Loop: when and by whom the machines of one lane are run: poll, feed, settle, sleep until the next deadline.

One lane's sockets and machines belong to one loop, and are touched by one thread at a time: whoever holds
the loop's lock. A thread that has something to say and finds the lock free says it there and then, which saves
a hand-over between threads (18–24 us); if it finds the lock taken it leaves its work in the mailbox, and
whoever holds the lock does it before letting go. While much is under way and what is sent would wait to go together
all the same, work is left there too, and done together. Who polls the sockets is a matter of the lead
(`zdl.transport.lead`); what is done with messages and effects is the shell's (`zdl.transport.shell`).

::

    other threads ──submit()──▶ ┐  (the lock is free: here and now; else: Mailbox)
    who leads ──sockets───────▶ ├─▶ Shell: decode, feed a machine, act ──▶ sockets, or the desk
    deadline() ───────────────▶ ┘

No user code runs here, and nothing blocks but the poll, which is done without the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from zdl.errors import Busy, Closed
from zdl.protocol.effects import Effect
from zdl.protocol.switch import Switch
from zdl.transport.interrupts import Interrupts
from zdl.transport.lead import FOREVER, Lead
from zdl.transport.links import AT_ONCE, LAST_WORDS_MAX, Broken, Links, Socket
from zdl.transport.mailbox import Mailbox, Work
from zdl.transport.shell import OUTBOX_MAX, Desk, Shell
from zdl.transport.traffic import Traffic

_LOG = logging.getLogger("zdl.transport")
# Pieces of work that are left for who looks soon, while what they send would wait all the same; who comes with more does them.
LEFT_MAX = OUTBOX_MAX - 1
Value = TypeVar("Value")


class Loop:
    """One lane's thread.

    Args:
        name: of the thread.
        switch: the brain of its links.
        links: its sockets.
        mailbox: its door.
        spin_s: see `LinkOptions`.
    """

    def __init__(self, name: str, switch: Switch, links: Links, mailbox: Mailbox, *, spin_s: float = 0.0) -> None:
        self.switch = switch
        self.links = links
        self.mailbox = mailbox
        self._shell = Shell(switch, links, self._found_broken)
        self._broken: dict[int, Broken] = {}  # found by who wanted to send, and not heard out yet
        self.act = self._shell.act  # effects are performed in order
        self._is_running = False
        self._is_stopping = False
        self._lock = threading.Lock()  # guards the sockets and the machines
        self._owner = 0
        self._interrupts = Interrupts()
        self.lead = Lead(links.poller, self._feed, self._settle, self._interrupts, flush=self._look, spin_s=spin_s)
        self._afterwards: list[Work] = []
        self._is_busy = False  # there were more messages than were read
        self._me = switch.fqcn
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __repr__(self) -> str:
        return f"<Loop {self._thread.name}: {'running' if self._thread.is_alive() else 'stopped'}, {self.links!r}>"

    # --- from any thread ------------------------------------------------------------------------

    def start(self, desk: Desk) -> None:
        """Start the thread."""
        self._shell.desk = desk
        self.links.wake_by(self.mailbox.descriptor)
        self._is_running = True
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Say goodbye, close the sockets, end the thread. Returns whether it has ended in time."""
        if self._thread.is_alive():
            with suppress(Closed):  # it has ended meanwhile
                self.mailbox.insist(self._stop)
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def submit(self, function: Callable[..., None], *arguments: object) -> None:
        """Call the function while nobody else touches this loop: now, or soon.

        Raises:
            Busy: the mailbox is full.
            Closed: the loop has ended.
        """
        held = self._interrupts.hold()
        try:
            if self.lead.is_hot and self._is_running and len(self.mailbox.waiting) < LEFT_MAX and self._is_held():
                self.mailbox.put(function, *arguments)  # who looks does it with what else there is by then
            elif self._is_running and self._lock.acquire(False):
                afterwards = self._do_now(function, arguments)
                if afterwards:
                    self._tell(afterwards)
                    if self.lead.is_taken:  # who leads may have waited for just this
                        self.mailbox.wake()
            else:
                self.mailbox.put(function, *arguments)
        finally:
            self._interrupts.let_go(held)

    def ask(self, question: Callable[[], Value]) -> Value:
        """The answer to a question put to the machines, while nobody else touches them; it may set a time for them.

        Raises:
            Closed: the loop has ended.
        """
        if self._owner == threading.get_ident():
            return question()
        with self._lock:
            if not self._is_running:
                raise Closed(fqcn=self._me)
            answer = question()
            if self._shell.outbox and not self._is_held():
                self._shell.flush()
            is_wanted = self._shell.deadline() < self.lead.wakes_at
        if is_wanted:
            self.mailbox.wake()
        return answer

    def is_current(self) -> bool:
        """Whether the thread that asks leads, and so must not wait for what only it can bring."""
        return self.lead.leader == threading.get_ident()

    def wake(self) -> None:
        """Whoever leads looks at whether he is done."""
        with suppress(Closed, Busy):  # then he looks anyway, or never again
            self.mailbox.put(_nothing)

    def look_again(self) -> None:
        """The desk wants a look at its deadlines."""
        if not self.lead.is_hot:  # else who stands by looks anyway
            self.wake()

    @property
    def undecoded(self) -> int:
        """Messages that were none."""
        return self._shell.undecoded

    def traffic(self) -> list[Traffic]:
        """What has moved so far, per peer."""
        return self._shell.traffic.all()

    def count_in(self, link: int, length: int) -> None:
        """Bytes of a body that the desk took itself; on the loop."""
        self._shell.traffic.of(link).bytes_in += length

    # --- on the loop ----------------------------------------------------------------------------

    def afterwards(self, function: Callable[..., None], *arguments: object) -> None:
        """Call the function when the lock is free again: for what wakes another thread.

        A thread that is woken while this one holds the interpreter goes back to sleep at once, and is woken a
        second time; so others are woken last, right before this thread sleeps itself.
        """
        self._afterwards.append((function, arguments))

    def do(self, function: Callable[[float], Iterable[Effect]]) -> None:
        """Call a machine and perform what it asks for."""
        now = time.monotonic()
        self.act(function(now), now)

    def _run(self) -> None:
        _LOG.debug("= %s started", self._thread.name)
        try:
            self.lead.run()
        finally:
            with self._lock:
                self._is_running = False
                self._shell.flush()
                self.links.close()
                left = self.mailbox.close()
            for function, _ in left:
                _LOG.debug("! %s left undone: %s", self._thread.name, getattr(function, "__name__", function))
            _LOG.debug("= %s stopped", self._thread.name)

    def _do_now(self, function: Callable[..., None], arguments: tuple[object, ...]) -> list[Work]:
        """With the lock, which is free afterwards. Returns whom to tell then."""
        lead = self.lead
        is_wanted = False
        try:
            self._owner = me = threading.get_ident()
            if not self._is_running:
                raise Closed(fqcn=self._me)
            if self.mailbox.waiting:  # it came before
                self._work()
            shell, is_led = self._shell, lead.leader == me
            # One message that nothing waits with goes straight to libzmq.
            shell.is_holding = is_led or self._is_held()
            try:
                function(*arguments)
            except Exception:
                self._log_failure()
            shell.is_holding = True
            if shell.outbox and not is_led and not self._is_held():
                shell.flush()
            lead.is_owing = True
            lead.active_at = time.monotonic()
            # Else whoever leads, or does next, does this before he sleeps.
            if not is_led and (lead.is_taken or not lead.is_hot):
                is_wanted = self.links.has_grown or shell.deadline() < lead.wakes_at or self.links.is_pending()
            afterwards, self._afterwards = self._afterwards, []
        finally:
            self._owner = 0
            self._lock.release()
        if is_wanted or self.mailbox.waiting:
            self.mailbox.wake()
        return afterwards

    def _is_held(self) -> bool:
        """Whether what is sent waits: more is to come, and who leads looks before he sleeps, or who stands by while it is hot."""
        assert self._shell.desk is not None
        is_looked_at = not self.mailbox.is_asleep if self.lead.is_taken else self.lead.is_hot
        return is_looked_at and self._shell.desk.is_pipelined()

    def flush(self) -> None:
        """Send what waits in the outbox."""
        if not self._shell.outbox:
            return
        with self._lock:
            self._owner = threading.get_ident()
            self._shell.flush()
            self._owner = 0

    def _look(self) -> bool:
        """Do and send what was left, by who stands by. Returns whether there was anything."""
        is_left = bool(self.mailbox.waiting or self._shell.outbox)
        if self.mailbox.waiting and self._is_running and self._lock.acquire(False):
            self._tell(self._do_now(_nothing, ()))
        self.flush()
        return is_left

    def _feed(self, descriptors: list[int]) -> None:
        """What has come is fed to the machines, by who leads."""
        with self._lock:
            self._owner = threading.get_ident()
            self.mailbox.awake(was_woken=self.mailbox.descriptor in descriptors)
            broken, readable = self.links.pending(descriptors)
            # What came over a connection is heard before its end: the last words are often the ones that count.
            # Whether a second one is there costs more to ask than to handle the first one before asking.
            messages_max = LAST_WORDS_MAX if broken else AT_ONCE if self._is_busy else 1
            for socket in readable:
                self._read(socket, messages_max)
            for each in broken:
                self._guard(self._shell.broken, each)
            if self.mailbox.waiting:
                self._work()
            afterwards, self._afterwards = self._afterwards, []
            self._owner = 0
        self._tell(afterwards)
        self.flush()

    def _settle(self) -> bool:
        """What must be done before anybody sleeps, by who leads. Returns whether there is more to feed."""
        with self._lock:
            self._owner = threading.get_ident()
            deadline = self._shell.deadline()
            if deadline < FOREVER and deadline <= time.monotonic():
                self._guard(self._shell.tick)
                deadline = self._shell.deadline()
            if self.mailbox.waiting:
                self._work()
                deadline = self._shell.deadline()
            if self._shell.outbox:
                self._shell.flush()
            self.lead.wakes_at = deadline
            self.links.has_grown = False
            self._is_busy = self.links.is_pending()
            is_more = self._is_busy or not self.mailbox.may_sleep()
            afterwards, self._afterwards = self._afterwards, []
            self._owner = 0
        if afterwards:
            self._tell(afterwards)
            if self._shell.outbox:
                self.flush()
                is_more = True
        if self._is_stopping and not self.lead.is_ended:
            self.lead.end()
        return is_more

    def _read(self, socket: Socket, messages_max: int) -> None:
        """Messages of one socket, which an earlier message may have closed."""
        for _ in range(messages_max):
            incoming = self.links.receive(socket)
            if incoming is None:
                return
            self._shell.take(incoming, self._guard)

    def _found_broken(self, broken: Broken) -> None:
        """A connection was found broken by who wanted to send on it, maybe not for the first time."""
        if broken.link not in self._broken:
            self._broken[broken.link] = broken
            with suppress(Busy, Closed):  # then other work waits, and this is done with it; or all sockets are closed
                self.mailbox.put(_nothing)

    def _hear_out(self, broken: Broken) -> None:
        """Its last words may still wait to be read."""
        for socket in self.links.sockets_of(broken.link):
            self._read(socket, LAST_WORDS_MAX)
        self._shell.broken(broken)

    def _work(self) -> None:
        """What other threads have left."""
        for function, arguments in self.mailbox.work():
            self._guard(function, *arguments)
        while self._broken:
            _, broken = self._broken.popitem()
            self._guard(self._hear_out, broken)

    def _tell(self, afterwards: list[Work]) -> None:
        for function, arguments in afterwards:
            try:
                function(*arguments)
            except Exception:
                self._log_failure()

    def _guard(self, function: Callable[..., None], *arguments: object) -> None:
        """One piece of work; an error in it is a bug of ours, is logged whole, and ends nothing else."""
        try:
            function(*arguments)
        except Exception:
            self._log_failure()

    def _log_failure(self) -> None:
        _LOG.exception("! %s: a piece of work failed", self._thread.name)

    def _stop(self) -> None:
        now = time.monotonic()
        self.act(self.switch.close(now), now)
        self._is_stopping = True


def _nothing() -> None:
    """Work that only wakes."""
