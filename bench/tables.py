"""Saved results as tables of reStructuredText: the way by which figures get into the documentation, so that none is typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from zdl_bench.report import Environment, Result, ratio_text

TITLE = """\
================
Figures of a run
================

Made of saved results by ``zdl bench show FILE… --rst``; whoever wants others measures anew. How they come about, and what the
systems are: `Benchmarks <benchmarks.rst>`__. A ratio is the median of those within each round; what follows ± is how much it varies
from round to round (standard deviation by mean).
"""
# A page has room for so many ceilings; the rest is in the JSON lines.
HEADINGS = ("system", "median (min … max)", "cv")


def rst(results: Sequence[Result]) -> str:
    """A page with one table for each case, under a line that says where it was made."""
    lines: list[str] = [TITLE]
    for environment in dict.fromkeys(each.env for each in results):
        mine = [each for each in results if each.env == environment]
        lines += [*_where(environment), ""]
        for (bench, case), group in groupby(mine, key=lambda each: (each.bench, each.case)):
            lines += [*_table(bench, case, list(group)), ""]
    return "\n".join(lines)


def _where(env: Environment) -> Iterator[str]:
    yield f"{env.cpu}, {env.cores} cores, {env.memory_bytes / (1 << 30):.0f} GiB of memory, {env.kernel}, Python {env.python},"
    yield f"pyzmq {env.pyzmq} with libzmq {env.zmq}, numpy {env.numpy}; commit ``{env.commit}``."


def _table(bench: str, case: str, results: Sequence[Result]) -> Iterator[str]:
    first = results[0]
    ceilings = list(dict.fromkeys(ceiling for each in results for ceiling in each.ratio))
    extras = list(dict.fromkeys(name for each in results for name in each.extra if _is_shown(name, results)))
    headings = [*HEADINGS, *(f"of {ceiling}" for ceiling in ceilings), *extras]
    yield f".. list-table:: ``{bench}``: {case}, {first.unit}, {first.better} is better, {first.runs} rounds"
    yield "   :header-rows: 1"
    yield ""
    yield from _row(headings)
    for each in results:
        ratios = [ratio_text(each, name) if name in each.ratio else "" for name in ceilings]
        shown = [_extra(name, each.extra[name]) if name in each.extra else "" for name in extras]
        yield from _row([f"``{each.system}``", f"{_number(each.median)} ({_number(each.min)} … {_number(each.max)})",
                         f"{each.cv:.0%}", *ratios, *shown])


def _row(cells: Sequence[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'*' if number == 0 else ' '} - {cell}".rstrip()


def _is_shown(name: str, results: Sequence[Result]) -> bool:
    return any(each.extra.get(name) for each in results)


def _extra(name: str, value: float) -> str:
    return f"{value / (1 << 20):.3g} MiB" if name.endswith("_bytes") and abs(value) >= 1 << 16 else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
