"""The Python in the pages runs, in order, and prints what the comment behind each ``print`` says; and what the pages say of
options, of marks and of examples agrees with the code.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import pytest

from zdl.options import KIB, MIB, Options

TESTS = Path(__file__).resolve().parent
DOCS = TESTS.parent / "docs"
EXAMPLES = TESTS.parent / "examples"
PAGES = ("tutorial.rst", "concepts.rst", "cookbook.rst", "downloads.rst", "streams.rst")
# A block, and all lines below it that are indented deeper or empty.
BLOCK = re.compile(r"^\.\. code-block:: python\n((?:\n| +.*\n)+)", re.MULTILINE)
PROMISE = re.compile(r"print\(.*\) +# (.*)$", re.MULTILINE)
# A line of the table of options: its name and its default.
OPTION = re.compile(r"^``([a-z_.]+)`` +(\S+(?: [KMGT]iB)?)  ", re.MULTILINE)
# A line of the tables of rows, with the lines that go on with it.
ROW = re.compile(r"^([A-Z]\d+) .*\n(?: {9,}``.*\n)*", re.MULTILINE)
MARK = re.compile(r"mark\.row\(([^)]*)\)")
UNITS = {"KiB": KIB, "MiB": MIB, "GiB": KIB * MIB, "TiB": MIB * MIB}


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_and_print_what_they_say(page: str, tmp_path: Path) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    code = "\n".join(textwrap.dedent(block) for block in BLOCK.findall(text + "\n"))
    promised = PROMISE.findall(code)
    assert promised, f"{page} promises nothing"
    done = subprocess.run([sys.executable, "-W", "error::ResourceWarning", "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == promised
    assert not list(tmp_path.iterdir()), "a page leaves files behind"


def test_the_table_of_options_has_them_all_with_their_defaults() -> None:
    told = dict(OPTION.findall(page("operations.rst")))
    assert list(told) == list(defaults()), "in the order of zdl/options.py"
    assert {name: value_of(text) for name, text in told.items()} == defaults()


def test_every_row_is_shown_by_the_tests_that_are_named_or_is_said_to_be_open() -> None:
    marked: defaultdict[str, set[str]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        for ids in MARK.findall(path.read_text(encoding="utf-8")):
            for row in re.findall(r'"([A-Z]\d+)"', ids):
                marked[row].add(str(path.relative_to(TESTS)))
    told = {found[1]: found[0] for found in ROW.finditer(page("parity.rst").partition("\nRows, and the tests")[2])}
    assert len(told) > 40
    for row, line in told.items():
        named = {each if "/" in each else f"parity/{each}" for each in re.findall(r"``([a-z/]*test_\w+\.py)``", line)}
        assert named == marked[row], f"{row} is shown elsewhere"
        assert bool(named) != ("**open**" in line), f"{row} is neither shown nor said to be open"


def test_every_example_is_named_in_the_cookbook_and_every_one_that_is_named_is_there() -> None:
    there = {f"examples/{path.name}" for path in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"``(examples/\w+\.py)``", page("cookbook.rst"))) == there


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / name).read_text(encoding="utf-8")


def defaults() -> dict[str, object]:
    """Every option by its name in the tables."""
    found: dict[str, object] = {}
    options = Options()
    for each in dataclasses.fields(options):
        value = getattr(options, each.name)
        if dataclasses.is_dataclass(value):
            found |= {f"{each.name}.{one.name}": getattr(value, one.name) for one in dataclasses.fields(value)}
        else:
            found[each.name] = value
    return found


def value_of(text: str) -> object:
    """What the table says, as the code has it."""
    number, _, unit = text.replace(",", "").partition(" ")
    if number in ("True", "False"):
        return number == "True"
    return float(number) * UNITS.get(unit, 1) if number[0].isdigit() or number == "inf" else number
