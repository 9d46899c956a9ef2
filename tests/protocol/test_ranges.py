"""Ranges: byte ranges, joined and compared."""

from __future__ import annotations

from hypothesis import given, strategies as st

from zdl.protocol.ranges import contains, grown, union

RANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 500)), max_size=12)


def test_ranges_that_touch_or_overlap_are_joined_whatever_their_order() -> None:
    assert union([(150, 150), (0, 100), (50, 100)]) == ((0, 300),)
    assert union([]) == ()


def test_a_range_inside_another_adds_nothing() -> None:
    assert union([(0, 1000), (100, 10)]) == ((0, 1000),)


def test_a_gap_is_a_gap_however_small() -> None:
    assert union([(0, 10), (11, 5)]) == ((0, 10), (11, 5))
    assert union([(0, 10), (10, 5)]) == ((0, 15),)


def test_who_has_an_item_to_its_end_has_what_lies_behind_it_and_nobody_else_has() -> None:
    gaps = {100: 28, 150: 42}
    assert list(grown([(0, 100), (128, 22), (192, 5)], gaps)) == [(0, 128), (128, 64), (192, 5)]
    assert list(grown([(0, 99), (101, 27), (128, 21)], gaps)) == [(0, 99), (101, 27), (128, 21)]
    assert list(grown([(0, 100)], {})) == [(0, 100)]


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
    assert all(one[0] + one[1] < other[0] for one, other in zip(joined, joined[1:], strict=False))
