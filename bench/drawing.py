"""Results as a drawing: bars of the ratios, and how many bytes came when. SVG, which needs nothing to be made.

A bar is how good a system was beside a ceiling, whichever way its unit counts; the line at 1 is the ceiling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from zdl_bench.compare import goodness
from zdl_bench.report import Result

WIDTH, LABEL_WIDTH, ROW_HEIGHT, CURVE_HEIGHT, MARGIN = 900, 330, 16, 220, 12
# The most that a bar shows; its number tells the rest.
RATIO_MAX = 2.0
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#edae49", "#6a4c93", "#30343f", "#00798c", "#8d6a9f", "#9c6644", "#5c946e")
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a drawing and how high it is."""

    svg: str
    height: int


def bars(results: Sequence[Result]) -> list[tuple[str, str, float]]:
    """(case, system → ceiling, how good) of every ratio."""
    return [(f"{each.bench} {each.case}", f"{each.system} → {ceiling}", goodness(each, ceiling))
            for each in results for ceiling in each.ratio]


def svg(results: Sequence[Result]) -> str:
    """The whole drawing."""
    pieces = [*_bar_rows(results), *_curves(results)]
    height = sum(piece.height for piece in pieces) + 2 * MARGIN
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
             'font-family="sans-serif" font-size="11">', f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    top = MARGIN
    for piece in pieces:
        parts.append(f'<g transform="translate(0 {top})">{piece.svg}</g>')
        top += piece.height
    return "\n".join([*parts, "</svg>", ""])


def _bar_rows(results: Sequence[Result]) -> Iterator[Piece]:
    room = WIDTH - LABEL_WIDTH - 70
    for case, rows in groupby(bars(results), key=lambda row: row[0]):
        yield Piece(f'<text x="{MARGIN}" y="14" font-weight="bold">{escape(case)}</text>', ROW_HEIGHT + 4)
        for _, name, good in rows:
            length = room * min(good, RATIO_MAX) / RATIO_MAX
            one = LABEL_WIDTH + room / RATIO_MAX
            yield Piece(f'<text x="{LABEL_WIDTH - 6}" y="12" text-anchor="end">{escape(name)}</text>'
                        f'<rect x="{LABEL_WIDTH}" y="2" width="{length:.1f}" height="{ROW_HEIGHT - 4}" '
                        f'fill="{COLOURS[0 if good >= 1 else 3]}"/>'
                        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="0" y2="{ROW_HEIGHT}" stroke="#30343f"/>'
                        f'<text x="{LABEL_WIDTH + length + 4:.1f}" y="12">{good:.2f}</text>', ROW_HEIGHT)


def _curves(results: Sequence[Result]) -> Iterator[Piece]:
    """One figure for each case that has curves: what had come when, in its last round."""
    drawn = [each for each in results if len(each.curve) > 1]
    for (bench, case), group in groupby(drawn, key=lambda each: (each.bench, each.case)):
        members = list(group)
        end_s = max(each.curve[-1][0] for each in members)
        most = max(each.curve[-1][1] for each in members)
        across, down = WIDTH - 220 - 50, CURVE_HEIGHT - 50
        parts = [f'<text x="{MARGIN}" y="14" font-weight="bold">{escape(f"{bench} {case}: GiB that have come, by seconds")}</text>',
                 f'<rect x="50" y="22" width="{across}" height="{down}" fill="none" stroke="#999"/>',
                 f'<text x="46" y="32" text-anchor="end">{most / GIB:.3g}</text>',
                 f'<text x="46" y="{22 + down}" text-anchor="end">0</text>',
                 f'<text x="{50 + across}" y="{36 + down}" text-anchor="end">{end_s:.3g} s</text>']
        for number, each in enumerate(members):
            colour = COLOURS[number % len(COLOURS)]
            points = " ".join(f"{50 + across * at_s / end_s:.1f},{22 + down - down * done / most:.1f}" for at_s, done in each.curve)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            parts.append(f'<text x="{60 + across}" y="{34 + 15 * number}" fill="{colour}">{escape(each.system)}</text>')
        yield Piece("".join(parts), CURVE_HEIGHT)


def text_bars(results: Sequence[Result], *, width: int = 40) -> Iterator[str]:
    """The bars as lines of text; the bar at the ceiling is half as long as there is room."""
    shown = bars(results)
    names = max((len(name) for _, name, _ in shown), default=0)
    for case, rows in groupby(shown, key=lambda row: row[0]):
        yield case
        for _, name, good in rows:
            length = round(width * min(good, RATIO_MAX) / RATIO_MAX)
            yield f"  {name:<{names}}  {'█' * length:<{width}}  {good:.2f}"
