"""Hot values behave like frozen ones in everything but the check at run time, which the type checker makes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from zdl.protocol.hot import hot_value

PROGRAM = """
from zdl.protocol.hot import hot_value

@hot_value
class Pair:
    left: int
    right: int = 0

pair = Pair(1)
pair.left = 2
Pair("one")
"""


@hot_value
class Pair:
    """Two numbers."""

    left: int
    right: int = 0


def test_it_is_equal_hashed_shown_replaced_and_matched_by_its_attributes() -> None:
    pair = Pair(1)
    assert pair == Pair(1, 0) != Pair(0, 1) and hash(pair) == hash(Pair(1))
    assert repr(pair) == "Pair(left=1, right=0)"
    assert replace(pair, right=5) == Pair(1, 5)
    match pair:
        case Pair(left=left, right=right):
            assert (left, right) == (1, 0)


def test_it_has_no_room_for_other_attributes() -> None:
    with pytest.raises(AttributeError):
        setattr(Pair(1), "other", 1)


def test_the_type_checker_refuses_to_assign_to_an_attribute(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(program)],
                          cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert 'Property "left" defined in "Pair" is read-only' in done.stdout, done.stdout + done.stderr
    assert "incompatible type" in done.stdout
