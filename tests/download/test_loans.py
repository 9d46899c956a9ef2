"""Loans: what a cell tells of what it lends, and who may end it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.loans import CHANNEL, END_TOPIC, LOANS_TOPIC, PAGE_MAX, label_of
from zdl.errors import Refused
from zdl.observe.loans import LoanFacts
from zdl.options import OfferOptions, Options
from zdl.refs import Ref

from trees import Trees
from waiting import eventually


def told(server: Cell, **asked: object) -> tuple[list[dict[str, object]], str]:
    """A page, as another cell gets it."""
    body = server.request("server", CHANNEL, LOANS_TOPIC, asked).body
    assert isinstance(body, dict)
    return body["loans"], body["next"]


def test_a_page_tells_of_each_loan_and_of_each_of_its_receivers(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    with server.downloads.transaction(receivers=2) as filling:
        filling.add(np.zeros(4))
        loan, = told(server)[0]
        assert (loan["state"], loan["what"], loan["wanted"], loan["waits_for"]) == ("filling", "", 2, ())
    lent = server.downloads.lend(b"x" * 5000, receivers=["site-1", "site-2"])
    assert isinstance(lent.body, Ref)
    lent.body.source.check()
    site.downloads.pull(lent.body)
    eventually(lambda: "site-1" in lent.receivers, what="the confirmation")
    loan, = [each for each in told(server)[0] if each["id"] == lent.id.hex()]
    assert loan["refs"] == (lent.body.source.label,) == (label_of(lent.body.source.offer_id),)
    holder, = loan["holders"]  # type: ignore[misc]
    assert (holder["fqcn"], holder["state"], holder["bytes_done"]) == ("site-1", "finished", 5000)
    assert (loan["finished"], loan["waits_for"], loan["bytes_total"]) == (1, ("site-2",), 5000)
    assert set(loan) == set(LoanFacts.__dataclass_fields__)


def test_what_is_told_names_no_secret(trees: Trees) -> None:
    server, = trees.grow("server")
    lent = server.downloads.lend(np.zeros(4))
    assert isinstance(lent.body, Ref)
    text = json.dumps(told(server))
    assert lent.body.source.secret.hex() not in text and lent.body.source.offer_id.hex() not in text


def test_pages_follow_one_another_whatever_ends_between_them(trees: Trees) -> None:
    server, = trees.grow("server")
    lent = {each.id.hex(): each for each in (server.downloads.lend(np.zeros(2)) for _ in range(5))}
    first, behind = told(server, count=2)
    assert [each["id"] for each in first] == sorted(lent)[:2] and behind == sorted(lent)[1]
    lent[behind].delete()
    lent[behind].wait(10)
    rest, end = told(server, after=behind, count=10 * PAGE_MAX)
    assert ([each["id"] for each in rest], end) == (sorted(lent)[2:], "")
    assert len(told(server, count="many", after=7)[0]) == 4  # nonsense asks for the first page


def test_nobody_ends_what_another_cell_lends_unless_that_allows_it(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    lent = server.downloads.lend(np.zeros(2))
    with pytest.raises(Refused, match="does not let others end") as refused:
        site.request("server", CHANNEL, END_TOPIC, {"what": lent.id.hex()})
    assert refused.value.reason == "not-allowed" and lent.outcome is None


def test_where_it_is_allowed_digits_that_begin_several_ids_end_none(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(offers=OfferOptions(removable=True)))
    lent = server.downloads.lend(np.zeros(2))
    for wrong in ("", lent.id.hex()[:7], "no such name", None, 3):
        with pytest.raises(Refused) as refused:
            site.request("server", CHANNEL, END_TOPIC, {"what": wrong})
        assert refused.value.reason == "unknown-ref"
    body = site.request("server", CHANNEL, END_TOPIC, {"what": lent.id.hex()[:8]}).body
    assert body == {"ended": [lent.id.hex()]} and lent.wait(10).reason == "deleted"
