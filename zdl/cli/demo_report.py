"""What the demo shows: a progress bar while it runs, tables or one JSON object when it is done."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from zdl.download.puller import MEMORY

GIB = 1 << 30
MIB = 1 << 20


class Display:
    """Progress on standard error, for people only."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=is_quiet)
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
                                  TransferSpeedColumn(), TimeRemainingColumn(), console=self._console, transient=True,
                                  disable=is_quiet or not self._console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def starting(self, count: int) -> None:
        """Processes are being started."""
        self._console.print(f"starting {count - 1} processes …", style="dim")

    def prepared(self, size: int, arrays: int, leaves: int) -> None:
        """The server has the arrays."""
        self._console.print(f"server has {arrays} arrays, {size / MIB:.1f} MiB; {leaves} leaves pull them", style="dim")
        self._task = self._progress.add_task("leaves pull", total=size * leaves)

    def progress(self, done: int) -> None:
        """So many bytes have reached the leaves."""
        if self._task is not None:
            self._progress.update(self._task, completed=done)


def report(roles: dict[str, str], reports: dict[str, Any], used: dict[str, Any], raw: dict[str, Any], *,
           as_json: bool) -> dict[str, Any]:
    """Print what happened; returns it as it would be printed in JSON."""
    cells = [{"fqcn": fqcn, "role": role, "payload_bytes_in": _moved(used[fqcn], "data_in"),
              "payload_bytes_out": _moved(used[fqcn], "data_out"), "rss_growth_bytes": used[fqcn]["rss_growth_bytes"],
              "cpu_s": round(used[fqcn]["cpu_s"], 3), "links": used[fqcn]["links"]} for fqcn, role in roles.items()]
    leaves = []
    for fqcn, told in reports.items():
        speed = told["bytes"] / GIB / told["seconds"]
        baseline = told["bytes"] / GIB / raw[fqcn]["seconds"]
        leaves.append({"fqcn": fqcn, "path": told["path"], "bytes": told["bytes"], "gib_per_s": round(speed, 3),
                       "raw_tcp_gib_per_s": round(baseline, 3),
                       "ratio_raw_tcp": round(speed / baseline, 3) if baseline else 0.0,
                       **{each: told[each] for each in ("way", "why", "why_not_shared")},
                       "verified": not told["wrong"] and told["returned"],
                       "return_gib_per_s": round(told["bytes"] / GIB / told["return_seconds"], 3)})
    result = {"ok": all(each["verified"] for each in leaves), "cells": cells, "leaves": leaves}
    if as_json:
        click.echo(json.dumps(result))
    else:
        _show(result)
    return result


def _moved(used: dict[str, Any], what: str) -> int:
    return sum(link[what] for link in used["links"].values())


def _show(result: dict[str, Any]) -> None:
    links = Table("process", "link to", "message bytes in", "message bytes out", "payload in", "payload out",
                  title="bytes moved per link")
    for cell in result["cells"]:
        for number, (fqcn, link) in enumerate(sorted((fqcn, link) for fqcn, link in cell["links"].items() if fqcn)):
            links.add_row("" if number else cell["fqcn"], fqcn, *(_size(link[each]) for each in (
                "control_in", "control_out", "data_in", "data_out")), end_section=number == len(cell["links"]) - 1)
    cells = Table("process", "role", "peak memory growth", "cpu s", "payload seen", title="per process")
    for cell in result["cells"]:
        seen = cell["payload_bytes_in"] + cell["payload_bytes_out"]
        cells.add_row(cell["fqcn"], cell["role"], _size(cell["rss_growth_bytes"]), f"{cell['cpu_s']:.2f}", _size(seen))
    leaves = Table("leaf", "pulled", "GiB/s", "raw TCP GiB/s", "ratio", "way", "verified", title="per leaf")
    for leaf in result["leaves"]:
        whys = " and ".join(leaf[each] for each in ("why", "why_not_shared") if leaf[each])
        way = leaf["way"] + (f" ({whys})" if whys else "")
        leaves.add_row(leaf["fqcn"], _size(leaf["bytes"]), f"{leaf['gib_per_s']:.2f}", f"{leaf['raw_tcp_gib_per_s']:.2f}",
                       f"{leaf['ratio_raw_tcp']:.2f}", way, "yes" if leaf["verified"] else "NO")
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in (links, cells, leaves):
        console.print(table)
    relays = [cell for cell in result["cells"] if cell["role"] == "relay"]
    for relay in relays:
        seen = relay["payload_bytes_in"] + relay["payload_bytes_out"]
        console.print(f"{relay['fqcn']} saw {_size(seen)} of payload and grew by {_size(relay['rss_growth_bytes'])}")
    if all(leaf["way"] != MEMORY for leaf in result["leaves"]):
        console.print("sent as between machines; cells of one machine share memory: see demo --same-host")
    console.print("every array arrived bit for bit, and every result came back" if result["ok"] else "AN ARRAY CAME WRONG")


def _size(count: int) -> str:
    if count < 10 * 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < MIB else f"{count / MIB:.1f} MiB"
