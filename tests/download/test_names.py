"""Names: what a peer calls a file leads nowhere but to one harmless component of a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from zdl.download.names import COMPONENT_BYTES_MAX, NAME_BYTES_MAX, PART, hidden, is_component, safe_name


@pytest.mark.parametrize(("name", "safe"), [
    ("policy.bin", "policy.bin"), ("../../etc/passwd", "passwd"), ("/etc/passwd", "passwd"), ("a\\..\\b", "b"),
    ("..", "file-3"), (".", "file-3"), ("", "file-3"), ("/", "file-3"), (".bashrc", "_bashrc"), ("a\nb\x1b[1m", "a_b_[1m"),
    ("\x00", "file-3"), ("  ", "file-3"), ("größe.bin", "größe.bin"), ("x/", "x"), ("-rf", "-rf"),
    ("NUL", "_NUL"), ("con.txt", "_con.txt"), ("com1", "_com1"), ("console", "console"),
])
def test_a_name_from_a_peer_becomes_one_harmless_component(name: str, safe: str) -> None:
    assert safe_name(name, 3) == safe


@pytest.mark.parametrize("name", ["x" * 5000, "ü" * 5000])
def test_a_name_from_a_peer_is_not_too_long(name: str) -> None:
    assert NAME_BYTES_MAX - 1 <= len(safe_name(name, 0).encode()) <= NAME_BYTES_MAX


@given(st.text(), st.integers(0, 5))
def test_whatever_a_peer_calls_it_is_one_component_that_is_not_hidden(name: str, index: int) -> None:
    safe = safe_name(name, index)
    assert is_component(safe.encode()) and not safe.startswith(".") and safe.isprintable()


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"x" * (COMPONENT_BYTES_MAX + 1)])
def test_what_leads_elsewhere_is_no_component(name: bytes) -> None:
    assert not is_component(name)


@pytest.mark.parametrize("name", [b"a", b"...", b".hidden", "größe".encode(), b"\xff\xfe", b"x" * COMPONENT_BYTES_MAX])
def test_any_other_name_is_one(name: bytes) -> None:
    assert is_component(name)


def test_what_belongs_to_a_file_has_a_hidden_name_beside_it_that_is_never_too_long() -> None:
    assert hidden(Path("/a/model.bin"), PART) == Path("/a/.model.bin.zdl-part")
    for long in ("x" * 255, "ü" * 127, "x" * 254 + "y"):
        found = hidden(Path("/a") / long, PART)
        assert found.parent == Path("/a") and len(found.name.encode()) <= COMPONENT_BYTES_MAX
        assert hidden(Path("/a") / long, PART) == found
    assert hidden(Path("/a") / ("x" * 255), PART) != hidden(Path("/a") / ("x" * 254 + "y"), PART)
