"""Changes: what is done to a transaction that is open; nothing is done to one that has ended, nor to a cell that is closed."""

from __future__ import annotations

import numpy as np

from zdl.download.changes import Changes
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from trees import Trees
from waiting import PATIENCE_S


def test_a_transaction_is_changed_by_its_id_until_it_has_ended(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    changes, lent = Changes(server), server.downloads.lend(np.arange(1000), receivers=2)
    changes.hold(lent.id, is_held=True)
    facts = changes.facts(lent.id)
    assert facts is not None and facts.is_held and facts.audience.count == 2
    changes.excuse(lent.id, 1)
    assert isinstance(lent.body, Ref)
    site.downloads.pull(lent.body)
    assert lent.outcome is None, "it is held"
    changes.hold(lent.id, is_held=False)
    assert lent.wait(PATIENCE_S).completed
    for again in (lambda: changes.excuse(lent.id, 1), lambda: changes.miss(lent.id, "site-1"),
                  lambda: changes.end(lent.id, Outcome.DELETED), lambda: changes.hold(lent.id, is_held=True)):
        again()
    assert changes.facts(lent.id) is None and lent.outcome is not None and lent.outcome.completed


def test_an_offer_that_is_withdrawn_leaves_its_transaction_open(trees: Trees) -> None:
    server, = trees.grow("server")
    lent = server.downloads.lend(np.arange(1000))
    assert isinstance(lent.body, Ref)
    Changes(server).withdraw(lent.body.source)
    facts = lent.facts
    assert facts is not None and facts.offers_count == 0


def test_what_a_closed_cell_has_lent_has_ended(trees: Trees) -> None:
    server, = trees.grow("server")
    changes, lent = Changes(server), server.downloads.lend(np.arange(1000))
    server.close()
    changes.end(lent.id, Outcome.DELETED)
    changes.hold(lent.id, is_held=True)
    assert changes.facts(lent.id) is None and lent.outcome is not None and lent.outcome.outcome is Outcome.CLOSED
