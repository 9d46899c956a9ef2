"""The method: who runs when, what is dropped, what a ratio is, and that everything is stopped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from zdl_bench.report import Environment
from zdl_bench.rounds import Case, NoCeiling, Rounds, Sample, measure, order, played, results, variation

HERE = Environment(cpu="a cpu", cores=2, python="3.11", zmq="4.3.5", commit="unknown")


class Scripted:
    """A system whose values are given, and which writes into a diary what happens to it."""

    def __init__(self, name: str, values: Sequence[float], diary: list[str]) -> None:
        self.name = name
        self._values = iter(values)
        self._diary = diary

    def start(self) -> None:
        self._diary.append(f"start {self.name}")

    def run(self) -> Sample:
        self._diary.append(f"run {self.name}")
        value = next(self._values)
        return Sample(value, {"cpu_s": value * 2, "peak_rss_bytes": value * 10})

    def stop(self) -> None:
        self._diary.append(f"stop {self.name}")


class Failing(Scripted):
    """A system that starts and then cannot run."""

    def run(self) -> Sample:
        raise RuntimeError("no luck")


def case(*ceilings: str) -> Case:
    return Case(bench="pull", name="1MiB-mixed tcp", unit="GiB/s", better="higher", ceilings=ceilings)


def test_each_round_begins_one_system_later() -> None:
    assert [order(3, round_index=index) for index in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_systems_alternate_and_are_started_and_stopped_once() -> None:
    diary: list[str] = []
    systems = [Scripted("a", (1, 2), diary), Scripted("b", (3, 4), diary)]
    played(systems, Rounds(count=2, warm_ups=0))
    assert diary == ["start a", "start b", "run a", "run b", "run b", "run a", "stop b", "stop a"]


def test_warm_up_rounds_are_run_and_dropped() -> None:
    rounds = played([Scripted("a", (100, 200, 3, 4), [])], Rounds(count=2, warm_ups=2))
    assert [each["a"].value for each in rounds] == [3, 4]


def test_progress_is_told_after_every_run() -> None:
    lines: list[str] = []
    played([Scripted("a", (1, 2), [])], Rounds(count=1, warm_ups=1), told=lines.append)
    assert lines == ["warm-up  a  1", "round 1/1  a  2"]


def test_a_failing_system_stops_all_of_them() -> None:
    diary: list[str] = []
    with pytest.raises(RuntimeError, match="no luck"):
        played([Scripted("a", (1,), diary), Failing("b", (), diary)], Rounds(count=1, warm_ups=0))
    assert diary[-2:] == ["stop b", "stop a"]


def test_two_systems_of_one_name_are_refused_before_anything_starts() -> None:
    diary: list[str] = []
    with pytest.raises(ValueError, match="same name"):
        played([Scripted("a", (1,), diary), Scripted("a", (1,), diary)], Rounds(count=1))
    assert diary == []


@pytest.mark.parametrize(("count", "warm_ups"), [(0, 1), (1, -1)])
def test_rounds_that_cannot_be_are_refused(count: int, warm_ups: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        Rounds(count=count, warm_ups=warm_ups)


def test_a_ratio_is_the_median_of_the_ratios_and_not_the_ratio_of_the_medians() -> None:
    # The machine was three times as fast in the last round; within each round the order is clear.
    rounds = [{"a": Sample(a), "b": Sample(b)} for a, b in ((1, 2), (4, 4), (6, 12))]
    found, _ = results(case("b"), rounds, HERE)
    assert found.ratio == {"b": 0.5} and found.ratios == {"b": (0.5, 1.0, 0.5)}


def test_how_much_the_rounds_differ_is_told_of_values_and_of_ratios() -> None:
    rounds = [{"a": Sample(a), "b": Sample(b)} for a, b in ((1, 2), (2, 4), (3, 6))]
    found, ceiling = results(case("b"), rounds, HERE)
    assert (found.values, found.cv, found.ratio_cv) == ((1, 2, 3), 0.5, {"b": 0.0})
    assert ceiling.ratio_cv == {} and variation([4.0]) == 0


def test_where_nothing_else_does_the_work_a_figure_stands_alone() -> None:
    (found,) = results(case(), [{"zdl": Sample(1)}], HERE)
    assert (found.system, found.ratio) == ("zdl", {})


def test_results_have_spread_ratios_and_extras_of_every_system() -> None:
    found = measure(case("raw_tcp"), [Scripted("zdl", (9, 1, 2, 6), []), Scripted("raw_tcp", (9, 2, 4, 4), [])],
                    Rounds(count=3, warm_ups=1))
    zdl, raw = found
    assert (zdl.system, zdl.median, zdl.min, zdl.max, zdl.runs) == ("zdl", 2, 1, 6, 3)
    assert zdl.ratio == {"raw_tcp": 0.5}
    assert raw.ratio == {}
    assert zdl.env.cores >= 1


def test_bytes_are_the_most_of_any_round_and_everything_else_the_median() -> None:
    found = measure(case("a"), [Scripted("a", (1, 2, 9), [])], Rounds(count=3, warm_ups=0))
    assert found[0].extra == {"cpu_s": 4, "peak_rss_bytes": 90}


def test_extras_that_only_some_rounds_know_are_kept() -> None:
    rounds = [{"a": Sample(1, {"cpu_s": 3})}, {"a": Sample(1)}]
    assert results(case("a"), rounds, HERE)[0].extra == {"cpu_s": 3}


def test_no_figure_without_its_ceiling() -> None:
    with pytest.raises(NoCeiling, match="run raw_tcp or memcpy beside zdl"):
        results(case("raw_tcp", "memcpy"), [{"zdl": Sample(1)}], HERE)


def test_what_has_no_ceiling_is_not_even_run() -> None:
    diary: list[str] = []
    with pytest.raises(NoCeiling):
        measure(case("raw_tcp"), [Scripted("zdl", (1,), diary)], Rounds(count=1))
    assert diary == []


def test_a_ceiling_may_stand_alone() -> None:
    assert results(case("raw_tcp"), [{"raw_tcp": Sample(1)}], HERE)[0].median == 1


def test_no_round_gives_no_result() -> None:
    with pytest.raises(ValueError, match="no round"):
        results(case("raw_tcp"), [], HERE)
