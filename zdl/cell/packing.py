"""Packing: the frames of a body, what it lends, and what becomes of that with the message.

::

    body ──▶ pack ──▶ frames
               └─▶ Scope: one transaction ──▶ Lendings: open until it ends ──▶ `cell.lent()`
                     ▲
    fate of the message
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from zdl.cell.futures import Sending
from zdl.cell.handlers import Job, Owed, Raised, guarded
from zdl.cell.lending import Lending, Lent, OnLent, Transaction
from zdl.cell.service import Lender, Scope
from zdl.cell.workflow import HEADER as WORKFLOW_HEADER, Workflow
from zdl.errors import Cancelled, PeerLost, RemoteError, TimedOut, ZdlError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent as Leaf, pack, pack_plain
from zdl.objects.typetable import TypeTable
from zdl.objects.unopened import Unopened
from zdl.options import Options
from zdl.protocol import messages as wire
from zdl.protocol.messages import Body
from zdl.refs import Source

_LOG = logging.getLogger("zdl.cell")
# Errors after which the handler may have run all the same. After any other error it did not: what the request lent ends.
MAYBE_DELIVERED = (RemoteError, TimedOut, Cancelled, PeerLost)
# How replies are sent.
_REPLYING = Sending()

Packed = tuple[Body, Scope | None, bool]


class Packing:
    """What one cell packs, and what that lends.

    Threads: all methods from any thread.

    Args:
        options: of the cell.
        submit: has a job run on the handler pool.
        left_s: how long a message has left whose workflow is said to be this.
        types: what may travel.
    """

    def __init__(self, options: Options, submit: Callable[[Job], None], left_s: Callable[[object], float],
                 types: TypeTable = TypeTable()) -> None:
        self._options = options
        self.types = types
        self._submit = submit
        self._left_s = left_s
        self._lender: Lender | None = None
        # Put in and taken out by single operations, which need no lock.
        self._open: dict[bytes, Transaction] = {}
        self._scopes: dict[int, Scope] = {}

    def __repr__(self) -> str:
        return f"<Packing: {len(self._open)} transactions open>"

    def use_lender(self, lender: Lender) -> None:
        """What is too large for a message is lent by this service."""
        self._lender = lender

    def pack(self, body: object, targets: Sequence[str], sending: Sending) -> Packed:
        """The frames of a body, what it lends, and whether there are refs in it; one that lends nothing has no scope to end.

        Args:
            body: what shall be sent.
            targets: to whom.
            sending: who is counted as a receiver, and how it is packed and lent.
        """
        lending = sending.lending
        packing = self._options.packing if lending is None or lending.packing is None else lending.packing
        plain = pack_plain(body, options=packing)
        if plain is not None:
            return plain, None, False
        if type(body) is Unopened and body.parts and packing is self._options.packing:
            return body.parts, None, True
        lender = self._lender
        if lender is None or not packing.lends:
            packed = pack(body, options=packing, types=self.types)
            return packed.parts, None, packed.has_refs
        scopes: list[Scope] = []

        def lend(manifest: Manifest, leaves: Sequence[Leaf]) -> Source:
            """All is packed: open the transaction."""
            assert lender is not None
            scope = lender.scope(sending.receivers, targets=targets, lease_s=self._lease_s(sending),
                                 packing=packing)
            source = scope.lend(manifest, leaves)
            scopes.append(scope)
            return source

        packed = pack(body, options=packing, types=self.types, lend=lend)
        if not scopes:
            return packed.parts, None, packed.has_refs
        self._note(scopes[0], None if lending is None else lending.on_lent, sending.workflow)
        return packed.parts, scopes[0], packed.has_refs

    def pack_reply(self, body: object, request: wire.Request) -> Packed:
        """The same for the answer to a request: who asked is who pulls."""
        plain = pack_plain(body, options=self._options.packing)
        if plain is not None:
            return plain, None, False
        sending = _REPLYING
        if WORKFLOW_HEADER in request.headers:
            lease_s = self._at_least(self._left_s(request.headers[WORKFLOW_HEADER]))
            sending = replace(sending, lending=Lending(lease_s=lease_s))
        return self.pack(body, (request.origin,), sending)

    # --- what becomes of it ---------------------------------------------------------------------

    def lent(self) -> Lent:
        """What messages of this cell have lent and what has not ended."""
        return Lent(list(self._open.values()))

    def remember(self, number: int, scope: Scope) -> None:
        """A reply or notice with this id lends something, should it not arrive."""
        self._scopes[number] = scope
        while len(self._scopes) > self._options.calls.remembered_max:
            del self._scopes[next(iter(self._scopes))]

    def undelivered(self, number: int) -> None:
        """The reply or notice with this id did not arrive."""
        scope = self._scopes.pop(number, None)
        if scope is not None:
            scope.undeliverable()

    # --- inside ---------------------------------------------------------------------------------

    def _lease_s(self, sending: Sending) -> float | None:
        if sending.lending is not None and sending.lending.lease_s is not None:
            return sending.lending.lease_s
        return None if sending.workflow is None else self._at_least(sending.workflow.left_s())

    def _at_least(self, left_s: float) -> float:
        return max(left_s, self._options.offers.lease_min_s)

    def _note(self, scope: Scope, on_lent: OnLent | None, workflow: Workflow | None) -> None:
        """It is open until it ends; then its sender is told."""
        transaction = scope.transaction
        if transaction is None:
            return
        self._open[transaction.id] = transaction

        def done() -> None:
            """On the data lane."""
            self._open.pop(transaction.id, None)
            if on_lent is not None:
                self._tell(on_lent, transaction)

        transaction.when_done(done)
        if workflow is not None:
            workflow.lends(transaction)

    def _tell(self, on_lent: OnLent, transaction: Transaction) -> None:
        def tell() -> None:
            """On the pool, or by who closes it."""
            raised = guarded(lambda: on_lent(transaction))
            if isinstance(raised, Raised):
                _LOG.warning("! on_lent raised %s: %s", raised.kind, raised.text)

        try:
            self._submit(Owed(tell, lambda closed: tell()))
        except ZdlError as error:
            _LOG.warning("! on_lent is not told: %s", error)


class Shared:
    """What one body lends that goes to several targets, and which of them it still may reach.

    Threads: all methods from any thread.

    Args:
        scope: of the body; None when it lends nothing.
        targets_count: how many it goes to.
        is_counted: whether each of them counts as a receiver, and nobody else does.
    """

    def __init__(self, scope: Scope | None, targets_count: int, *, is_counted: bool) -> None:
        self._scope = scope
        self._is_counted = is_counted
        self._lock = threading.Lock()  # guards the count
        self._left = targets_count

    @property
    def lent(self) -> Lent:
        """What it has lent."""
        return lent_by(self._scope)

    def ended(self, error: ZdlError | None) -> None:
        """What came of it for one of them."""
        if self._scope is None:
            return
        if error is None or isinstance(error, MAYBE_DELIVERED):
            conclude(self._scope, error)
            return
        with self._lock:
            self._left -= 1
            left = self._left
        if left == 0:
            self._scope.undeliverable()
        elif self._is_counted:
            self._scope.excuse(1)


def conclude(scope: Scope | None, error: ZdlError | None) -> None:
    """What becomes of what a message to one target lent, now that the message has come to its end."""
    if scope is None or error is None:
        return
    if isinstance(error, PeerLost):
        scope.miss(error.target)
    elif not isinstance(error, MAYBE_DELIVERED):
        scope.undeliverable()


def lent_by(*scopes: Scope | None) -> Lent:
    """What these messages have lent."""
    found = [None if scope is None else scope.transaction for scope in scopes]
    return Lent([each for each in found if each is not None])
