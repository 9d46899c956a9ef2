"""Two saved runs beside each other, and figures that must not fall below a bound.

Ratios travel between machines and days, absolute figures do not: what is compared is how good a system was beside its ceilings,
in one run and in the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zdl_bench.report import Result


def loaded(path: str | Path) -> list[Result]:
    """What ``zdl bench … --json`` or ``--out`` has written; of what was measured twice, the last.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line of it is none of a benchmark; says which.
    """
    found: dict[tuple[str, str, str], Result] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            result = Result.parsed(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        found[result.bench, result.case, result.system] = result
    return list(found.values())


def goodness(result: Result, ceiling: str) -> float:
    """How good a system was beside a ceiling: above 1 is better, whichever way the unit counts."""
    ratio = result.ratio[ceiling]
    return ratio if result.better == "higher" else (1 / ratio if ratio else math.inf)


@dataclass(frozen=True, slots=True)
class Change:
    """One ratio in two runs.

    Attributes:
        bench, case, system, ceiling: whose, beside whom.
        before, after: how good, see `goodness`.
        noise: what may be chance: two standard errors of the medians, together, as a part of `before`.
    """

    bench: str
    case: str
    system: str
    ceiling: str
    before: float
    after: float
    noise: float

    @property
    def change(self) -> float:
        """0.1 is ten per cent better."""
        return self.after / self.before - 1 if self.before else 0.0

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``same`` where the change is within the noise."""
        if abs(self.change) <= self.noise:
            return "same"
        return "better" if self.change > 0 else "worse"


def changes(before: Iterable[Result], after: Iterable[Result]) -> list[Change]:
    """All ratios that both runs have, in the order of the second."""
    known = {(each.bench, each.case, each.system): each for each in before}
    found: list[Change] = []
    for result in after:
        other = known.get((result.bench, result.case, result.system))
        for ceiling in result.ratio if other else ():
            if other is not None and ceiling in other.ratio:
                noise = 2 * math.hypot(_error(other, ceiling), _error(result, ceiling))
                found.append(Change(result.bench, result.case, result.system, ceiling, goodness(other, ceiling),
                                    goodness(result, ceiling), noise))
    return found


def _error(result: Result, ceiling: str) -> float:
    """Relative standard error of the median of the ratios; that of a median is 1.25 times that of a mean."""
    return 1.25 * result.ratio_cv.get(ceiling, 0.0) / math.sqrt(result.runs)


@dataclass(frozen=True, slots=True)
class Bound:
    """A system must be at least so good beside a ceiling.

    Attributes:
        system, ceiling: whose ratio; an empty ceiling means all there are.
        least: see `goodness`.
    """

    system: str
    ceiling: str
    least: float

    @classmethod
    def parsed(cls, text: str) -> Bound:
        """``0.9``: ``zdl`` beside every ceiling; ``bare_pyzmq=0.9``; ``zdl_quick/bare_pyzmq=0.9``.

        Raises:
            ValueError: it is none of these.
        """
        who, _, least = text.rpartition("=")
        system, _, ceiling = who.rpartition("/")
        try:
            return cls(system or "zdl", ceiling, float(least))
        except ValueError:
            raise ValueError(f"a bound is written 0.9, bare_pyzmq=0.9 or zdl_quick/bare_pyzmq=0.9, not {text!r}") from None


def below(bounds: Sequence[Bound], results: Sequence[Result]) -> list[str]:
    """A line for each ratio that is below its bound, or for a bound that nothing was measured for."""
    found: list[str] = []
    for bound in bounds:
        measured = [(each, ceiling) for each in results if each.system == bound.system
                    for ceiling in each.ratio if bound.ceiling in ("", ceiling)]
        if not measured:
            found.append(f"{bound.system} was not measured beside {bound.ceiling or 'any ceiling'}")
        found += [f"{each.bench} {each.case}: {each.system} is at {goodness(each, ceiling):.3g} of {ceiling}, not {bound.least:g}"
                  for each, ceiling in measured if goodness(each, ceiling) < bound.least]
    return found
