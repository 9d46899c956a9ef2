"""Traffic: what moved is counted per link, and kept under the peer's name when the link has ended."""

from __future__ import annotations

from zdl.transport.traffic import ENDED_MAX, Traffic, TrafficBook


def test_messages_and_the_bytes_of_their_bodies_are_counted() -> None:
    book = TrafficBook({3: "site-1"}.__getitem__)
    book.count_in(3, (b"12", memoryview(b"345")))
    book.count_out(3, (b"the header", b"1234"))
    book.of(3).bytes_in += 10
    assert book.all() == [Traffic("site-1", bytes_in=15, bytes_out=4, messages_in=1, messages_out=1)]


def test_a_link_whose_peer_is_known_later_has_its_name_from_then_on() -> None:
    names = {3: ""}
    book = TrafficBook(names.__getitem__)
    book.count_in(3, ())
    names[3] = "site-1"
    assert [each.fqcn for each in book.all()] == ["site-1"]


def test_links_of_one_peer_are_summed_up_over_time() -> None:
    book = TrafficBook(lambda link: "site-1")
    for link in (2, 4, 6):
        book.count_in(link, (b"1",))
        if link < 6:
            book.fold(link)
    book.fold(8)  # nothing moved over it
    assert book.all() == [Traffic("site-1", bytes_in=3, messages_in=3)]


def test_only_so_many_that_are_gone_are_remembered() -> None:
    book = TrafficBook(str)
    for link in range(ENDED_MAX + 5):
        book.count_in(link, ())
        book.fold(link)
    assert len(book.all()) == ENDED_MAX
