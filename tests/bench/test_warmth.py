"""Memory that the machine really has before a run takes it."""

from __future__ import annotations

import resource
from pathlib import Path

from zdl_bench.destination import HUGE_PAGE_BYTES
from zdl_bench.warmth import Host, memory_warmed

FOREVER_S = float("inf")


def test_memory_that_is_warmed_is_touched_page_by_page() -> None:
    pages_count = 16
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    memory_warmed(pages_count * HUGE_PAGE_BYTES)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before >= pages_count


def test_memory_on_small_pages_is_touched_page_by_page() -> None:
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    memory_warmed(HUGE_PAGE_BYTES, is_huge=False)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt > before


def test_what_the_host_has_taken_back_is_what_the_kernel_counts(tmp_path: Path) -> None:
    reported = tmp_path / "reported_kib"
    reported.write_text("3\n")
    assert Host(reported).taken_back_bytes() == 3072
    reported.write_text("a word\n")
    assert Host(reported).taken_back_bytes() == 0


def test_a_kernel_that_does_not_count_is_not_waited_for(tmp_path: Path) -> None:
    looks: list[float] = []
    host = Host(tmp_path / "none", pass_s=FOREVER_S, wait_s_max=FOREVER_S, pause=looks.append)
    memory_warmed(HUGE_PAGE_BYTES, is_settled=True, host=host)
    assert host.taken_back_bytes() == 0 and not looks


def test_memory_is_held_until_no_pass_is_due(tmp_path: Path) -> None:
    reported = tmp_path / "reported_kib"
    reported.write_text("1")
    looks: list[int] = []

    def pause(_: float) -> None:
        """Two more passes come while one waits."""
        looks.append(len(looks))
        reported.write_text(str(min(3, 1 + len(looks))))

    memory_warmed(HUGE_PAGE_BYTES, is_settled=True, host=Host(reported, pass_s=0.1, wait_s_max=FOREVER_S, pause=pause))
    assert len(looks) >= 3 and reported.read_text() == "3", "the last one sees the same"


def test_where_passes_never_end_nobody_waits_for_ever(tmp_path: Path) -> None:
    reported = tmp_path / "reported_kib"
    reported.write_text("1")
    looks: list[int] = []

    def pause(_: float) -> None:
        looks.append(len(looks))
        reported.write_text(str(1 + len(looks)))

    Host(reported, pass_s=FOREVER_S, wait_s_max=0.05, pause=pause).wait_until_done()
    assert looks
