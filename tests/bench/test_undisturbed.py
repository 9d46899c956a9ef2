"""Runs that the host disturbs are repeated; so often, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from zdl_bench.rounds import Sample
from zdl_bench.undisturbed import REPEATS_MAX, SETTLED_BYTES_MIN, TAKEN_BACK_BYTES_MAX, undisturbed
from zdl_bench.warmth import Host

MUCH_KIB = TAKEN_BACK_BYTES_MAX // 1024 + 1


@dataclass(slots=True)
class Disturbed:
    """Runs during which the host takes so much, one after the other, in KiB; and what was warmed before them."""

    reported: Path
    taken_kib: list[int]
    values: list[float] = field(default_factory=list)
    warmed: list[bool] = field(default_factory=list)

    def run(self) -> Sample:
        """One more."""
        seen_kib = int(self.reported.read_text(encoding="ascii"))
        self.reported.write_text(str(seen_kib + self.taken_kib[len(self.values)]), encoding="ascii")
        self.values.append(float(len(self.values)))
        return Sample(self.values[-1], {"cpu_s": 1.0})

    def sample(self, load_bytes: int = 1, pass_s: float = float("inf")) -> Sample:
        """What counts."""
        self.reported.write_text("7", encoding="ascii")
        host = Host(self.reported, pass_s=pass_s)
        return undisturbed(self.run, load_bytes=load_bytes, warm=self.warmed.append, host=host)


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    return tmp_path / "reported_kib"


def test_a_run_that_nobody_disturbs_is_not_repeated(reported: Path) -> None:
    assert Disturbed(reported, [0]).sample() == Sample(0.0, {"cpu_s": 1.0})


def test_a_disturbed_run_is_repeated_until_one_is_not(reported: Path) -> None:
    runs = Disturbed(reported, [MUCH_KIB, MUCH_KIB, 1])
    assert runs.sample() == Sample(2.0, {"cpu_s": 1.0, "taken_back_bytes": 1024})
    assert runs.warmed == [False] * 3


def test_where_none_is_undisturbed_the_last_one_tells(reported: Path) -> None:
    found = Disturbed(reported, [MUCH_KIB] * REPEATS_MAX).sample()
    assert found.value == REPEATS_MAX - 1 and found.extra["taken_back_bytes"] > TAKEN_BACK_BYTES_MAX


def test_a_run_that_takes_longer_than_passes_are_apart_counts_as_it_is(reported: Path) -> None:
    found = Disturbed(reported, [MUCH_KIB]).sample(pass_s=0.0)
    assert found.value == 0.0 and found.extra["taken_back_bytes"] > TAKEN_BACK_BYTES_MAX


@pytest.mark.parametrize(("load_bytes", "is_settled"), [(SETTLED_BYTES_MIN - 1, False), (SETTLED_BYTES_MIN, True)])
def test_only_before_large_loads_the_host_is_waited_for(reported: Path, load_bytes: int, is_settled: bool) -> None:
    runs = Disturbed(reported, [0])
    runs.sample(load_bytes)
    assert runs.warmed == [is_settled]
