"""The method: systems alternate within a round, warm-ups are dropped, ratios are taken within a round.

A shared machine is faster in one minute than in the next by more than what is being asked. Two figures of one
round share their minute; the median of their ratios is what may be compared with another day's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from zdl_bench.report import Environment, Result


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of one system gave.

    Attributes:
        value: in the unit of the case; above 0.
        extra: what else was seen, by name, unit last in the name.
        curve: how many bytes were there when: pairs of seconds and bytes, where that was noted.
    """

    value: float
    extra: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[tuple[float, int], ...] = ()


class System(Protocol):
    """Something that can be measured again and again.

    Lifetime: `start` once, `run` once per round, `stop` once, also after a failed `start` or `run`.
    """

    @property
    def name(self) -> str:
        """Names the system in results; unique within a case."""

    def start(self) -> None:
        """Starts processes and connects them; not measured."""

    def run(self) -> Sample:
        """Does the work once."""

    def stop(self) -> None:
        """Ends every process; idempotent."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked.

    Attributes:
        bench: the question's file: ``pull``, ``rtt``.
        name: size, kind and scheme, such as ``512MiB-mixed tcp``.
        unit: of every value: ``GiB/s``, ``us``.
        better: ``higher`` or ``lower``.
        ceilings: the systems that all others are compared with; none where nothing else does the work.
    """

    bench: str
    name: str
    unit: str
    better: str
    ceilings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often.

    Attributes:
        count: rounds that count.
        warm_ups: rounds before them, dropped: connections, imports and the growth of buffers happen there.
    """

    count: int = 7
    warm_ups: int = 2

    def __post_init__(self) -> None:
        if self.count < 1 or self.warm_ups < 0:
            raise ValueError(f"rounds must be at least 1 and warm-ups at least 0, not {self.count} and {self.warm_ups}")


Round = Mapping[str, Sample]


def order(count: int, *, round_index: int) -> list[int]:
    """Who runs when in this round: all of ``range(count)``, beginning one later in each round."""
    return [(round_index + place) % count for place in range(count)]


def played(systems: Sequence[System], rounds: Rounds, *,
           told: Callable[[str], None] = lambda line: None) -> list[Round]:
    """Starts all systems, runs them in turns, stops them whatever happens.

    Args:
        systems: their names must differ.
        rounds: how many rounds, and how many before them.
        told: is given a line of progress after each run.

    Returns:
        The rounds that count, oldest first; each holds one sample of each system.
    """
    names = [system.name for system in systems]
    if len(set(names)) != len(names):
        raise ValueError(f"two systems have the same name: {', '.join(names)}")
    counted: list[Round] = []
    with ExitStack() as started:
        for system in systems:
            started.callback(system.stop)
            system.start()
        for index in range(rounds.warm_ups + rounds.count):
            number = index - rounds.warm_ups + 1
            label = f"round {number}/{rounds.count}" if number > 0 else "warm-up"
            samples: dict[str, Sample] = {}
            for place in order(len(systems), round_index=index):
                sample = systems[place].run()
                samples[names[place]] = sample
                told(f"{label}  {names[place]}  {sample.value:.4g}")
            if number > 0:
                counted.append({name: samples[name] for name in names})
    return counted


def variation(values: Sequence[float]) -> float:
    """Standard deviation by mean; 0 of a single value."""
    return statistics.stdev(values) / statistics.fmean(values) if len(values) > 1 else 0.0


class NoCeiling(ValueError):
    """Nobody is measured beside whom the others would have a ratio."""


def ceilings_among(case: Case, names: Sequence[str]) -> list[str]:
    """Those of the systems that all others are compared with.

    Raises:
        NoCeiling: there is none, and there should be.
    """
    ceilings = [name for name in case.ceilings if name in names]
    if names and case.ceilings and not ceilings:
        raise NoCeiling(f"no figure without its ceiling: run {' or '.join(case.ceilings)} beside {', '.join(names)}")
    return ceilings


def results(case: Case, rounds: Sequence[Round], environment: Environment) -> list[Result]:
    """One result per system, in the order of the systems.

    Raises:
        ValueError: there is no round; or it is `NoCeiling`.
    """
    if not rounds:
        raise ValueError("no round was counted")
    names = list(rounds[0])
    ceilings = ceilings_among(case, names)
    return [_result(case, rounds, environment, name=name, ceilings=[each for each in ceilings if each != name])
            for name in names]


def _result(case: Case, rounds: Sequence[Round], environment: Environment, *, name: str,
            ceilings: Sequence[str]) -> Result:
    values = tuple(each[name].value for each in rounds)
    ratios = {ceiling: tuple(each[name].value / each[ceiling].value for each in rounds) for ceiling in ceilings}
    return Result(bench=case.bench, case=case.name, system=name, unit=case.unit, better=case.better,
                  median=statistics.median(values), min=min(values), max=max(values), runs=len(values),
                  ratio={ceiling: statistics.median(each) for ceiling, each in ratios.items()},
                  extra=_extra([each[name].extra for each in rounds]), env=environment, values=values, ratios=ratios,
                  cv=variation(values), ratio_cv={ceiling: variation(each) for ceiling, each in ratios.items()},
                  curve=rounds[-1][name].curve)


def _extra(seen: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Medians; but of bytes the most that any round needed, because a limit must hold in all of them."""
    names = list(dict.fromkeys(name for extra in seen for name in extra))
    summary: dict[str, float] = {}
    for name in names:
        values = [extra[name] for extra in seen if name in extra]
        summary[name] = max(values) if name.endswith("_bytes") else statistics.median(values)
    return summary


def measure(case: Case, systems: Sequence[System], rounds: Rounds, *,
            told: Callable[[str], None] = lambda line: None) -> list[Result]:
    """Plays the rounds of one case and sums them up: see `played` and `results`.

    Raises:
        NoCeiling: nothing was run, as its figures could not be told.
    """
    ceilings_among(case, [system.name for system in systems])
    counted = played(systems, rounds, told=told)
    return results(case, counted, Environment.found())
