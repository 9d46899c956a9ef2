"""Sizes as people write them."""

from __future__ import annotations

import pytest

from zdl_bench.sizes import parsed, written


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("64K", 65_536), ("1.5M", 1_572_864), (" 2GiB ", 2 << 30),
                                            ("512mb", 512 << 20), ("1 T", 1 << 40)])
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parsed(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1M", "0", "1.3", "1X", "1MM"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size is"):
        parsed(text)


@pytest.mark.parametrize(("size", "text"), [(1 << 20, "1MiB"), (4096, "4KiB"), (1500, "1500B"), (3 << 30, "3GiB"),
                                            (1 << 40, "1TiB"), (0, "0B")])
def test_sizes_are_written_without_rounding(size: int, text: str) -> None:
    assert written(size) == text
