"""Sizes as people write them."""

from __future__ import annotations

import pytest

from zdl_bench.sizes import written


@pytest.mark.parametrize(("size", "text"), [(1 << 20, "1MiB"), (4096, "4KiB"), (1500, "1500B"), (3 << 30, "3GiB"),
                                            (1 << 40, "1TiB"), (0, "0B")])
def test_sizes_are_written_without_rounding(size: int, text: str) -> None:
    assert written(size) == text
