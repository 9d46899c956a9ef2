"""What a benchmark prints: one JSON object per line for programs, a table for people."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import zmq

HEADINGS = ("case", "system", "median", "min", "max", "unit", "runs", "ratio", "extra")


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a figure was made, because only ratios travel.

    Attributes:
        cpu: the processor's own name.
        cores: those this process may use.
        python: version of the interpreter.
        zmq: version of libzmq.
        commit: of the checkout that holds this file; ``unknown`` where it was installed from elsewhere.
    """

    cpu: str
    cores: int
    python: str
    zmq: str
    commit: str

    @classmethod
    def found(cls) -> Environment:
        """This machine, now."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(cpu=_cpu(), cores=cores, python=platform.python_version(), zmq=zmq.zmq_version(),
                   commit=_commit())


@dataclass(frozen=True, slots=True)
class Result:
    """What is known about one system in one case; the fields and their order are those of the JSON line.

    Attributes:
        bench, case, system: the question, its parameters in short, who was measured.
        unit, better: of the values; ``higher`` or ``lower``.
        median, min, max, runs: over the rounds that counted.
        ratio: by ceiling, the median of (this system's value / the ceiling's) within each round.
        extra: by name, unit last in the name.
        env: where.
    """

    bench: str
    case: str
    system: str
    unit: str
    better: str
    median: float
    min: float
    max: float
    runs: int
    ratio: Mapping[str, float]
    extra: Mapping[str, float]
    env: Environment


def json_line(result: Result) -> str:
    """One line of ``zdl bench … --json``, numbers cut to what they can mean."""
    return json.dumps(_cut(asdict(result)), ensure_ascii=False)


def write_json(results: Sequence[Result], stream: TextIO) -> None:
    """One line per result and nothing else."""
    for result in results:
        stream.write(json_line(result) + "\n")
    stream.flush()


def write_table(results: Sequence[Result], stream: TextIO) -> None:
    """For people: aligned on a terminal, tab-separated where the output goes elsewhere."""
    if not results:
        return
    head = _headline(results[0].env)
    rows = [_cells(result) for result in results]
    if stream.isatty():
        _write_rich(head, rows, stream)
    else:
        stream.write("# " + head + "\n")
        stream.writelines("\t".join(row) + "\n" for row in (HEADINGS, *rows))
    stream.flush()


def _write_rich(head: str, rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    # Only people at a terminal pay for the import.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title=head, title_justify="left", title_style="dim", pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("median", "min", "max", "runs") else "left",
                         overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(file=stream).print(table)


def _headline(env: Environment) -> str:
    return f"cpu={env.cpu} cores={env.cores} python={env.python} zmq={env.zmq} commit={env.commit}"


def _cells(result: Result) -> tuple[str, ...]:
    ratios = "  ".join(f"{name} → {value:.2f}" for name, value in result.ratio.items())
    extras = "  ".join(f"{name}={_number(value)}" for name, value in result.extra.items())
    return (result.case, result.system, _number(result.median), _number(result.min), _number(result.max),
            result.unit, str(result.runs), ratios, extras)


def _number(value: float) -> str:
    """Three digits, or all of a whole number: nobody measured more."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _cut(value: object) -> object:
    """Floats to five digits, whole ones to integers, at every depth."""
    if isinstance(value, dict):
        return {key: _cut(each) for key, each in value.items()}
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.5g}")
    return value


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str:
    """The commit of the checkout this file is tracked in; another project's checkout around us does not count."""
    here = Path(__file__).resolve()
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    commit = _git(here.parent, "rev-parse", "--short", "HEAD") if tracked else None
    return commit or "unknown"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5,
                              check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
