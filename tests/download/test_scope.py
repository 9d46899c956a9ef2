"""MessageScope: what one message lends ends with the fate of the message, or when its receivers have it."""

from __future__ import annotations

import numpy as np

from zdl.assembly import Cell
from zdl.download.lending import Lender, audience_of
from zdl.download.scope import MessageScope
from zdl.objects.pack import pack
from zdl.options import PackOptions
from zdl.protocol.effects import Outcome

from trees import Trees
from waiting import PATIENCE_S


def packed(scope: MessageScope) -> None:
    """Pack an object that is large enough for a ref."""
    pack({"w": np.zeros(1 << 21)}, options=PackOptions(), lend=scope.lend)


def lender_of(cell: Cell) -> Lender:
    lender = Lender(cell)
    lender.attach()
    return lender


def test_it_opens_nothing_before_something_is_lent_and_then_one_transaction(trees: Trees) -> None:
    (server,) = trees.grow("server")
    lender = lender_of(server)
    scope = MessageScope(lender, audience_of(2), None, PackOptions())
    scope.undeliverable()
    scope.excuse(1)
    assert scope.transaction is None and not lender.transactions
    packed(scope)
    assert lender.transactions == [scope.transaction]
    scope.undeliverable()
    assert scope.transaction is not None and scope.transaction.wait(PATIENCE_S).outcome is Outcome.UNDELIVERABLE
    assert not lender.transactions
    lender.close()
