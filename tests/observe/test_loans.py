"""Loans: what is told of them travels as plain values."""

from __future__ import annotations

import msgpack

from zdl.observe.loans import HolderFacts, LoanFacts


def test_plain_values_say_all_that_the_facts_say_and_travel() -> None:
    holder = HolderFacts("site-1", "pulling", 10, 20, 0.5)
    loan = LoanFacts("ab" * 16, "array", ("weights",), ("ref:ab…",), 1, "open", 100, 2.0, 598.0, (holder,), 1, 2, 0,
                     ("site-1", "site-2"))
    plain = loan.plain()
    assert plain["holders"] == ({"fqcn": "site-1", "state": "pulling", "bytes_done": 10, "bytes_served": 20, "silent_s": 0.5},)
    assert (plain["wanted"], plain["finished"], plain["waits_for"]) == (2, 0, ("site-1", "site-2"))
    assert msgpack.unpackb(msgpack.packb(plain), use_list=False) == plain
