"""The last answers are kept within their bounds, as they were given."""

from __future__ import annotations

import dataclasses

from zdl.protocol.kept import SHARE, Kept
from zdl.protocol.messages import Part, Reply


def answer(number: int, *body: Part, target: str = "site-1") -> Reply:
    return Reply("server", target, number, "", {}, {}, body)


def test_an_answer_is_found_by_its_caller_and_id() -> None:
    kept = Kept(3, 1000)
    first, other = answer(1, b"a"), answer(1, b"b", target="site-2")
    kept.keep(first)
    kept.keep(other)
    assert (kept.find("site-1", 1), kept.find("site-2", 1), kept.find("site-1", 2)) == (first, other, None)
    kept.check()


def test_the_oldest_answers_are_forgotten_by_number_and_by_bytes() -> None:
    kept = Kept(3, 10_000)
    for number in range(5):
        kept.keep(answer(number, b"x" * 90))
        kept.check()
    assert [kept.find("site-1", number) is not None for number in range(5)] == [False, False, True, True, True]
    small = Kept(1000, 250 * SHARE)
    for number in range(150):
        small.keep(answer(number, b"x" * 249))
        small.check()
    assert len(small) == 250 * SHARE // 249


def test_an_answer_that_is_too_large_is_not_kept_and_pushes_nothing_out() -> None:
    kept = Kept(3, 10 * SHARE)
    kept.keep(answer(1, b"x" * 10))
    kept.keep(answer(2, b"x" * 11))
    kept.keep(answer(3, b"x", memoryview(bytearray(10))))
    assert (kept.find("site-1", 1), kept.find("site-1", 2), kept.find("site-1", 3)) == (answer(1, b"x" * 10), None, None)


def test_memory_of_the_users_is_copied_so_that_the_answer_stays_what_it_was() -> None:
    own = bytearray(b"abc")
    kept = Kept(3, 10_000)
    kept.keep(answer(1, b"skeleton", memoryview(own)))
    own[:] = b"xyz"
    own.append(0)  # nobody holds it
    found = kept.find("site-1", 1)
    assert found == dataclasses.replace(answer(1), body=(b"skeleton", b"abc"))


def test_an_answer_without_a_body_is_kept_too() -> None:
    kept = Kept(3, 1000)
    kept.keep(answer(1))
    assert kept.find("site-1", 1) == answer(1)
    kept.check()
