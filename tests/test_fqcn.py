"""Names of cells, and what follows from a name alone."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from zdl.errors import FqcnError
from zdl.fqcn import (
    FQCN_BYTES_MAX,
    ROOT,
    ancestors,
    common_ancestor,
    family,
    is_ancestor,
    is_parent,
    is_within,
    parent,
    parse,
    parts,
)

PART = st.text("abcXYZ019_~-", min_size=1, max_size=5)
NAMES = st.lists(PART, min_size=1, max_size=5, unique=True).map(".".join)


@pytest.mark.parametrize("text", ["server", "site-1", "site-1.job-7.worker-0", "R1.R11.site-1", "a_b~c-D.0", "x" * 255])
def test_a_well_formed_name_is_itself(text: str) -> None:
    assert parse(text) == text


@pytest.mark.parametrize("text", [" site-1", "site-1\n", "\tsite-1 "])
def test_surrounding_blanks_are_taken_off(text: str) -> None:
    assert parse(text) == "site-1"


@pytest.mark.parametrize(("text", "reason"), [
    (None, "must be a string, not NoneType"), (7, "must be a string, not int"), (b"a", "must be a string, not bytes"),
    ("", "it is empty"), ("   ", "it is empty"), (".", "empty part"), ("a..b", "empty part"), (".a", "empty part"),
    ("a.", "empty part"), ("a.b.a", "part 'a' is repeated"), ("a b", "characters other than"), ("a/b", "characters"),
    ("ä", "characters other"), ("a\n.b", "characters other"), ("a.b\x00", "characters other"), ("*", "characters"),
    ("x" * 256, "more than 255 bytes"), ("\ud800", "characters other")])
def test_anything_else_is_refused_with_the_reason(text: object, reason: str) -> None:
    with pytest.raises(FqcnError) as caught:
        parse(text)
    assert reason in caught.value.reason
    assert len(str(caught.value)) < 300


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = parse(text)
    except FqcnError as error:
        assert error.reason
        return
    assert parse(name) == name == text.strip()
    assert len(name) <= FQCN_BYTES_MAX


def test_a_name_has_parts_and_the_first_is_its_family() -> None:
    assert parts("site-1.job-7") == ("site-1", "job-7")
    assert family("site-1.job-7.w0") == family("site-1") == "site-1"


def test_parents_are_one_part_shorter_and_first_parts_are_children_of_the_root() -> None:
    assert parent("site-1.job-7.w0") == "site-1.job-7"
    assert parent("site-1") == parent("server.job-7") == "server"
    assert parent("server") is None
    assert parent("site-1", root="hub") == "hub" and parent("hub", root="hub") is None
    assert parent("server", root="hub") == "hub"


def test_ancestors_are_told_the_nearest_first() -> None:
    assert ancestors("site-1.job-7.w0") == ("site-1.job-7", "site-1", "server")
    assert ancestors("server.job-7") == ("server",)
    assert ancestors("server") == ()
    assert ancestors("a.b", root="hub") == ("a", "hub")


def test_a_parent_is_the_cell_directly_above() -> None:
    assert is_parent("site-1", "site-1.job-7") and is_parent("server", "site-1")
    assert not is_parent("server", "site-1.job-7") and not is_parent("site-1", "site-1")


def test_an_ancestor_stands_somewhere_above() -> None:
    assert is_ancestor("site-1", "site-1.job-7.w0") and is_ancestor("server", "site-1.job-7")
    assert not is_ancestor("site-1", "site-1") and not is_ancestor("site-1", "site-11") and not is_ancestor("a.b", "a")
    assert not is_ancestor("server", "hub", root="hub") and is_ancestor("hub", "server", root="hub")


def test_a_subtree_is_a_name_and_what_begins_with_it_and_a_dot() -> None:
    assert is_within("site-1", "site-1") and is_within("site-1.job-7", "site-1")
    assert not is_within("site-11", "site-1") and not is_within("site-1", "server")
    assert not is_within("site-1", "site-1.a")


def test_the_common_ancestor_is_both_or_above_both() -> None:
    assert common_ancestor("site-1.a", "site-1.b") == "site-1"
    assert common_ancestor("site-1", "site-1.b.c") == common_ancestor("site-1.b.c", "site-1") == "site-1"
    assert common_ancestor("site-1", "site-2") == common_ancestor("server", "site-2.a") == "server"
    assert common_ancestor("a", "b", root="hub") == "hub"


@given(NAMES)
def test_a_line_of_ancestors_ends_at_the_root_and_each_is_the_parent_of_the_one_before(name: str) -> None:
    line = (parse(name), *ancestors(name))
    assert line[-1] == ROOT or name == ROOT
    for below, above in zip(line, line[1:], strict=False):
        assert is_parent(above, below) and is_ancestor(above, name)


@given(NAMES, NAMES)
def test_the_common_ancestor_is_the_lowest_there_is(one: str, other: str) -> None:
    top = common_ancestor(one, other)
    assert top == common_ancestor(other, one)
    for each in (one, other):
        assert each == top or is_ancestor(top, each)
    shared = [each for each in (one, *ancestors(one)) if each == other or is_ancestor(each, other)]
    assert shared[0] == top
