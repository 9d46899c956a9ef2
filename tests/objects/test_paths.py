"""Paths into an object."""

from __future__ import annotations

from zdl.objects.paths import shown, step


def test_steps_of_a_path() -> None:
    assert step("a", first=True) == "a"
    assert step("a", first=False) == ".a"
    assert step("a.b", first=False) == "['a.b']"
    assert step(True, first=False) == "[True]"


def test_a_strange_key_is_shown_by_its_type_only() -> None:
    assert shown((1, ("a", b"b"))) == "(1, ('a', b'b'))"
    assert shown("x" * 200) == "'" + "x" * 80 + "'…"
    assert shown(object()) == "<object>" and shown(1 << 70) == "<int>" and shown((1,) * 5) == "<tuple>"
