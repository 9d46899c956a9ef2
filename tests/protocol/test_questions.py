"""Questions: each passes the gate, takes its turn to be read, or is denied."""

from __future__ import annotations

from zdl.options import OfferOptions
from zdl.protocol.effects import Effect, Outcome, Post, Serve
from zdl.protocol.messages import Ask, Denial, Drop, Priority, Verify
from zdl.protocol.offers import Audience, Offer, Offers
from zdl.protocol.pacing import YIELD_S
from zdl.protocol.questions import PULLERS_MAX, Questions
from zdl.protocol.transactions import Transactions

T, A, SECRET = b"t" * 16, b"a" * 16, b"s" * 16
KIB = 1024
SLOW = OfferOptions(bwlimit_bytes_per_s=100 * KIB)


def lending(options: OfferOptions = SLOW) -> Offers:
    offers = Offers("server", options)
    offers.lend(T, [Offer(A, SECRET, 1 << 20)], Audience(count=2), 60.0, 0.0)
    return offers


def ask(offset: int, origin: str = "site-1", *, priority: Priority = Priority.NORMAL, number: int = 7) -> Ask:
    return Ask(origin, "server", number, A, SECRET, offset, 10 * KIB, Verify.NONE, 0, priority)


def read(offers: Offers, effects: list[Effect], now: float) -> list[int]:
    """The offsets that are served now; they are read at once."""
    found = [each.ask for each in effects if isinstance(each, Serve)]
    for each in found:
        offers.made(each, None, now)
    offers.check()
    return [each.offset for each in found]


def later(offers: Offers, until: float) -> list[tuple[int, float]]:
    """What is served by and by, and when."""
    found: list[tuple[int, float]] = []
    while (deadline := offers.deadline()) is not None and deadline <= until:
        found += [(offset, round(deadline, 1)) for offset in read(offers, offers.tick(deadline), deadline)]
    return found


def test_an_origin_serves_no_more_in_a_second_than_its_limit_and_forgets_no_question() -> None:
    offers = lending()
    assert [each for at in range(5) for each in read(offers, offers.receive(ask(at * 10 * KIB), 0.0), 0.0)] == [0]
    assert offers.transactions.is_pulled_from
    found = later(offers, 50.0)
    assert [offset for offset, _ in found] == [at * 10 * KIB for at in range(1, 5)]
    assert found[-1][1] in (0.3, 0.4)


def test_who_only_waits_at_the_gate_has_begun() -> None:
    offers = lending()
    read(offers, offers.receive(ask(0), 0.0), 0.0)
    assert offers.receive(ask(0, "site-2"), 0.0) == []
    facts = offers.transactions.facts(T, 0.0)
    assert facts is not None and {each.name for each in facts.receivers} == {"site-1", "site-2"}


def test_what_waits_for_a_pull_that_is_over_is_not_read_and_costs_no_bandwidth() -> None:
    offers = lending()
    for at in range(5):
        read(offers, offers.receive(ask(at * 10 * KIB), 0.0), 0.0)
    offers.receive(Drop("site-1", "server", 7, A, SECRET, "cancelled"), 0.0)
    assert offers.receive(ask(0, "site-2", number=8), 0.0) == []
    ((offset, at),) = later(offers, 50.0)
    assert (offset, at <= 0.1) == (0, True)


def test_what_waits_of_an_offer_that_has_ended_is_not_read() -> None:
    offers = lending()
    for at in range(5):
        read(offers, offers.receive(ask(at * 10 * KIB), 0.0), 0.0)
    offers.end(T, Outcome.DELETED, 0.0)
    assert later(offers, 50.0) == []


def test_at_the_origin_the_background_yields_to_other_receivers() -> None:
    offers = lending(OfferOptions())
    for step in range(20):  # a second
        now = step * YIELD_S / 2
        assert read(offers, offers.receive(ask(step * 10 * KIB), now), now) == [step * 10 * KIB]
        offers.receive(ask(step * 10 * KIB, "site-2", priority=Priority.BACKGROUND, number=8), now)
        read(offers, offers.tick(now), now)
    facts = offers.transactions.facts(T, 1.0)
    assert facts is not None
    served = {each.name: each.bytes_served for each in facts.receivers}
    assert 5 * 10 * KIB <= served["site-2"] <= 11 * 10 * KIB < served["site-1"]
    assert len(later(offers, 50.0)) == 20 - served["site-2"] // (10 * KIB)


def test_where_more_waits_than_may_its_receiver_is_told() -> None:
    offers = Offers("server", OfferOptions(bwlimit_bytes_per_s=100 * KIB, serving_bytes_max=10 * KIB))
    offers.lend(T, [Offer(A, SECRET, 1 << 20)], Audience(count=2), 60.0, 0.0)
    assert [type(each) for each in offers.receive(ask(0), 0.0)] == [Serve]
    for at in range(1, 4):
        assert offers.receive(ask(at * 10 * KIB), 0.0) == []
    told = [each for _ in range(3) for each in offers.tick(offers.deadline() or 0.0)]  # one is read, one waits, then it is full
    denied = [each.message for each in told if isinstance(each, Post) and isinstance(each.message, Denial)]
    assert {each.facts["limit"] for each in denied} == {"serving_bytes_max"}
    offers.check()


def test_who_asked_is_remembered_for_as_many_pulls_as_a_cell_has() -> None:
    questions = Questions("server", OfferOptions(), Transactions("server", OfferOptions()))
    assert questions.puller(7) == (b"", "")
    assert PULLERS_MAX >= 10_000
