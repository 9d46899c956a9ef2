"""Memory that the machine really has before a run takes it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from zdl_bench import warmth
from zdl_bench.destination import HUGE_PAGE_BYTES
from zdl_bench.warmth import memory_warmed, taken_back_bytes


def told_by(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A counter of the test's own, where the kernel's would be."""
    monkeypatch.setattr(warmth, "REPORTED", path)
    return path


def test_memory_that_is_warmed_is_touched_page_by_page() -> None:
    pages_count = 16
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    memory_warmed(pages_count * HUGE_PAGE_BYTES)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before >= pages_count


def test_what_the_host_has_taken_back_is_what_the_kernel_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by(tmp_path / "reported_kib", monkeypatch).write_text("3\n")
    assert taken_back_bytes() == 3072


def test_a_kernel_that_does_not_count_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by(tmp_path / "none", monkeypatch)
    monkeypatch.setattr(warmth, "PASS_S", float("inf"))
    monkeypatch.setattr(warmth, "WAIT_S_MAX", float("inf"))
    memory_warmed(HUGE_PAGE_BYTES, is_settled=True)
    assert taken_back_bytes() == 0


def test_memory_is_held_until_no_pass_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by(tmp_path / "reported_kib", monkeypatch).write_text("1")
    looks: list[int] = []

    def counted(path: Path) -> str:
        """Two more passes come while one waits."""
        looks.append(len(looks))
        return str(min(3, 1 + len(looks)))

    monkeypatch.setattr(Path, "read_text", counted)
    monkeypatch.setattr(warmth, "PASS_S", 0.1)
    memory_warmed(HUGE_PAGE_BYTES, is_settled=True)
    assert len(looks) >= 4  # the last two see the same
