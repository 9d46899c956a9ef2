"""MessageScope: what one message lends: its lifetime is the message's fate and then its receivers'."""

from __future__ import annotations

import os
from collections.abc import Sequence

from zdl.download.guards import guarded
from zdl.download.lending import Lender
from zdl.download.transaction import Transaction
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent
from zdl.options import PackOptions
from zdl.protocol.audiences import Audience
from zdl.protocol.effects import Outcome
from zdl.refs import SECRET_BYTES, Source


class MessageScope:
    """At most one transaction, opened when packing has succeeded.

    Args:
        lender: who opens it.
        audience: whose confirmation ends it.
        lease_s: see `DownloadBroker.lend`; None: as the options say.
        options: what keeps the objects from changing; see `zdl.download.guards`.
    """

    def __init__(self, lender: Lender, audience: Audience, lease_s: float | None, options: PackOptions) -> None:
        self._lender = lender
        self._audience = audience
        self._lease_s = lease_s
        self._options = options
        self.transaction: Transaction | None = None

    def lend(self, manifest: Manifest, lent: Sequence[Lent]) -> Source:
        """Open the transaction."""
        secret = os.urandom(SECRET_BYTES)
        readable = guarded(manifest, lent, self._options, self._lender.fqcn, secret=secret, born=self._lender.born)
        self.transaction, source = self._lender.open(
            readable, manifest.bytes_total, self._audience, self._lease_s, gaps=manifest.gaps, secret=secret)
        return source

    def undeliverable(self) -> None:
        """The message did not arrive."""
        if self.transaction is not None:
            self._lender.changes.end(self.transaction.id, Outcome.UNDELIVERABLE)

    def excuse(self, count: int) -> None:
        """Some of those that it was for will not come."""
        if self.transaction is not None:
            self._lender.changes.excuse(self.transaction.id, count)

    def miss(self, target: str) -> None:
        """The way to this one was lost."""
        if self.transaction is not None:
            self._lender.changes.miss(self.transaction.id, target)
