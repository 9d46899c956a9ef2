"""The Python in the pages runs, in order, and prints what the comment behind each ``print`` says."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("tutorial.rst", "concepts.rst", "cookbook.rst")
# A block, and all lines below it that are indented deeper or empty.
BLOCK = re.compile(r"^\.\. code-block:: python\n((?:\n| +.*\n)+)", re.MULTILINE)
PROMISE = re.compile(r"print\(.*\) +# (.*)$", re.MULTILINE)


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
