"""The base of the errors: its facts, and sizes in sentences."""

from __future__ import annotations

import pytest

from zdl.errors.root import ZdlError, bytes_text


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5120.0 GiB"),
    (-2048, "-2.0 KiB"), (-7, "-7 B"),
])
def test_a_size_is_said_in_its_largest_unit(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_the_base_says_its_code_and_has_no_facts() -> None:
    assert str(ZdlError()) == ZdlError.code == "error"
    assert ZdlError().facts() == {} and ZdlError.exit_code == 1
