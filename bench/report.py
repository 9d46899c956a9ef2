"""What a benchmark prints: one JSON object per line for programs, a table for people."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import zmq

HEADINGS = ("case", "system", "median", "min", "max", "unit", "runs", "cv", "ratio", "extra")
# Of the JSON lines; raised when a field changes its meaning. Fields may be appended within one schema.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a figure was made, because only ratios travel.

    Attributes:
        cpu: the processor's own name.
        cores: those this process may use.
        python: version of the interpreter.
        zmq: version of libzmq.
        commit: of the checkout that holds this file, with a ``+`` where its files differ from it; ``unknown`` where it was
            installed from elsewhere.
        memory_bytes: of the machine; 0 where it does not tell.
        kernel: the system and its version.
        pyzmq, numpy: their versions.
    """

    cpu: str
    cores: int
    python: str
    zmq: str
    commit: str
    memory_bytes: int = 0
    kernel: str = ""
    pyzmq: str = ""
    numpy: str = ""

    @classmethod
    def found(cls) -> Environment:
        """This machine, now."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(cpu=_cpu(), cores=cores, python=platform.python_version(), zmq=zmq.zmq_version(),
                   commit=_commit(), memory_bytes=_memory_bytes(), kernel=f"{platform.system()} {platform.release()}",
                   pyzmq=zmq.__version__, numpy=np.__version__)


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
        values: of each round that counted, oldest first.
        ratios: by ceiling, the same of the ratios.
        cv: the values' coefficient of variation: standard deviation by mean; 0 of one value.
        ratio_cv: by ceiling, the same of the ratios: how much may be believed of `ratio`.
        options: what was asked, by the names of the question's fields.
        curve: of the last round: pairs of seconds and bytes that had come, where that was noted.
        schema: see `SCHEMA`.
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
    values: tuple[float, ...] = ()
    ratios: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    cv: float = 0.0
    ratio_cv: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    curve: tuple[tuple[float, int], ...] = ()
    schema: int = SCHEMA

    @classmethod
    def parsed(cls, line: str) -> Result:
        """The other way: of a saved line.

        Raises:
            ValueError: it is no such line, or of another schema.
        """
        try:
            told = json.loads(line)
            if told["schema"] != SCHEMA:
                raise ValueError(f"a line of schema {told['schema']}, where {SCHEMA} is known")
            return cls(**{**told, "env": Environment(**told["env"])})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"no line of a benchmark: {line.strip()[:80]!r}") from error


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
        table.add_column(heading, justify="right" if heading in ("median", "min", "max", "runs", "cv") else "left",
                         overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(file=stream).print(table)


def ratio_text(result: Result, ceiling: str) -> str:
    """The ratio, and how much it varies from round to round, if there was more than one."""
    spread = f" ±{result.ratio_cv[ceiling]:.0%}" if result.runs > 1 and ceiling in result.ratio_cv else ""
    return f"{result.ratio[ceiling]:.2f}{spread}"


def _headline(env: Environment) -> str:
    return (f"cpu={env.cpu} cores={env.cores} memory={env.memory_bytes / (1 << 30):.0f}GiB {env.kernel} python={env.python} "
            f"zmq={env.zmq} commit={env.commit}")


def _cells(result: Result) -> tuple[str, ...]:
    ratios = "  ".join(f"{name} → {ratio_text(result, name)}" for name in result.ratio)
    extras = "  ".join(f"{name}={_number(value)}" for name, value in result.extra.items())
    return (result.case, result.system, _number(result.median), _number(result.min), _number(result.max),
            result.unit, str(result.runs), f"{result.cv:.0%}", ratios, extras)


def _number(value: float) -> str:
    """Three digits, or all of a whole number: nobody measured more."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _cut(value: object) -> object:
    """Floats to five digits, whole ones to integers, at every depth."""
    if isinstance(value, dict):
        return {key: _cut(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(each) for each in value]
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
    if not commit:
        return "unknown"
    return commit + ("+" if _git(here.parent, "status", "--porcelain", "--untracked-files=no") else "")


def _memory_bytes() -> int:
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5,
                              check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
