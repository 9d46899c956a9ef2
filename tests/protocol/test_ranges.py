"""Ranges: byte ranges, joined and compared."""

from __future__ import annotations

from hypothesis import given, strategies as st

from zdl.protocol.ranges import GAP_BYTES, contains, covers, union

RANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 500)), max_size=12)


def test_ranges_that_touch_or_overlap_are_joined_whatever_their_order() -> None:
    assert union([(200, 100), (0, 100), (50, 100)]) == ((0, 300),)
    assert union([]) == ()


def test_a_range_inside_another_adds_nothing() -> None:
    assert union([(0, 1000), (100, 10)]) == ((0, 1000),)


def test_a_gap_that_no_item_fits_into_is_closed_and_a_larger_one_is_not() -> None:
    assert union([(0, 10), (10 + GAP_BYTES - 1, 5)]) == ((0, 10 + GAP_BYTES - 1 + 5),)
    assert union([(0, 10), (10 + GAP_BYTES, 5)]) == ((0, 10), (10 + GAP_BYTES, 5))


def test_one_range_from_the_first_byte_to_the_last_covers_all() -> None:
    assert covers(((0, 1000),), 1000)
    assert not covers(((0, 500), (700, 300)), 1000)
    assert not covers((), 1000)
    assert covers((), 0), "of nothing, everything is there"


def test_what_is_less_than_an_item_may_be_missing_at_the_ends() -> None:
    assert covers(((GAP_BYTES - 1, 1000 - GAP_BYTES + 1),), 1000)
    assert not covers(((GAP_BYTES, 1000 - GAP_BYTES),), 1000)
    assert covers(((0, 1000 - GAP_BYTES + 1),), 1000)
    assert not covers(((0, 1000 - GAP_BYTES),), 1000)


def test_joined_ranges_have_a_range_when_one_of_them_has_all_of_it() -> None:
    assert contains(((0, 100), (500, 100)), (520, 80))
    assert not contains(((0, 100), (500, 100)), (50, 500))
    assert not contains(((0, 100),), (0, 101))
    assert contains((), (70, 0)), "of nothing, everything is there"


@given(RANGES)
def test_joined_ranges_hold_every_byte_and_lie_apart(ranges: list[tuple[int, int]]) -> None:
    joined = union(ranges)
    assert joined == union(joined) == union(list(reversed(ranges)))
    for offset, length in ranges:
        assert any(first <= offset and offset + length <= first + size for first, size in joined)
    assert all(one[0] + one[1] + GAP_BYTES <= other[0] for one, other in zip(joined, joined[1:], strict=False))
