"""``zdl get``: fetch the files and folders that another cell lends under a name.

Nothing appears under its final name before all of it is there, verified, and kept by the disk. Several are fetched into a
folder of their own beside their place, and moved when all of them are there. What the lender says a file is called is
taken as one harmless name at most, never as a path. Of one file or folder, what is verified stays hidden beside its
place when the command is interrupted: the same command goes on from there.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

import click

from zdl.cell.signal import Signal
from zdl.cli.ending import Endings
from zdl.cli.joining import Joined, bwlimit_option, joined, parent_option, timeout_option
from zdl.cli.output import Output, output_options
from zdl.cli.units import SIZE, duration_text, size_text
from zdl.download.names import NAME_BYTES_MAX, PART, safe_name
from zdl.download.puller import COPIED
from zdl.errors import FqcnError
from zdl.fqcn import parse
from zdl.options import PRIORITIES, Options, PullOptions
from zdl.refs import Ref

# More is no hand-made lending, and every file costs two calls to the system and a round trip.
FILES_MAX = 10_000
# What the context of the command calls it.
PRIORITY = "zdl.get.priority"
# Of the names that are there, when none is what was asked for.
NAMES_SHOWN_MAX = 8
# How it came, by the way of the transfer.
WORDS = MappingProxyType({"memory": "shared", "direct": "direct, verified", "routed": "routed, verified",
                          COPIED: "copied on this host"})


@dataclass(frozen=True, slots=True)
class Lent:
    """``ref:CELL/NAME``, taken apart."""

    origin: str
    name: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """What goes where.

    Attributes:
        refs: the files.
        places: where each of them shall be, in the same order.
        folder: the folder of all of them, or None for one file.
    """

    refs: tuple[Ref, ...]
    places: tuple[Path, ...]
    folder: Path | None

    @property
    def bytes_total(self) -> int:
        """Of all files."""
        return sum(ref.length for ref in self.refs)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How it is fetched: replacing what is there, going on from what is left, until it is aborted."""

    is_overwriting: bool
    is_resumable: bool
    abort: Signal


class RefParam(click.ParamType):  # type: ignore[type-arg]
    """What ``zdl put`` prints."""

    name = "ref"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Lent:
        """``"ref:site-1/policy"`` → the cell and the name.

        Raises:
            click.BadParameter: it is none.
        """
        if isinstance(value, Lent):
            return value
        scheme, _, rest = str(value).strip().partition(":")
        origin, _, name = rest.partition("/")
        if scheme != "ref" or not name:
            self.fail(f"{str(value)!r} is not a ref; write for example ref:server.cli-1a2b3c4d/policy.bin", param, ctx)
        try:
            return Lent(parse(origin), name)
        except FqcnError as error:
            self.fail(str(error), param, ctx)


class RangeParam(click.ParamType):  # type: ignore[type-arg]
    """Some bytes of a file: ``0:1M``, ``1M:``, ``:64K``."""

    name = "range"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> slice:
        """``"64K:1M"`` → ``slice(65536, 1048576)``.

        Raises:
            click.BadParameter: it is none, or holds nothing.
        """
        if isinstance(value, slice):
            return value
        parts = [each.strip() for each in str(value).split(":")]
        if len(parts) != 2:
            self.fail(f"{str(value)!r} is not a range; write for example 0:1M, 1M: or :64K", param, ctx)
        start, stop = (None if not each else 0 if each == "0" else SIZE.convert(each, param, ctx) for each in parts)
        if stop is not None and stop <= (start or 0):
            self.fail(f"{str(value)!r} holds nothing: it ends where it begins, or before", param, ctx)
        return slice(start, stop)


def _keep_priority(context: click.Context, param: click.Parameter, value: str) -> str:
    """Where `get` finds it."""
    context.meta[PRIORITY] = value
    return value


@click.command()
@click.argument("ref", metavar="REF", type=RefParam())
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path),
              help="A file name for one file, a folder for several.")
@click.option("--overwrite", "--force", "is_overwriting", is_flag=True, help="Replace files that are there.")
@click.option("--resume/--fresh", "is_resumable", default=True, show_default=True,
              help="Go on from what an interrupted zdl get has left; or begin anew, and leave nothing if interrupted.")
@click.option("--item", "items", metavar="GLOB", multiple=True, help="Only the files and folders of such names.")
@click.option("--range", "span", metavar="A:B", type=RangeParam(), help="Only these bytes of the one file, e.g. 0:1M.")
@bwlimit_option
@click.option("--priority", type=click.Choice(PRIORITIES), default=PullOptions().priority, show_default=True,
              expose_value=False, callback=_keep_priority, help="Who goes first where several fetch from one cell.")
@parent_option
@timeout_option
@output_options
@click.pass_context
def get(context: click.Context, *, ref: Lent, out: Path, is_overwriting: bool, is_resumable: bool, items: tuple[str, ...],
        span: slice | None, bwlimit: float, parent: str, timeout_s: float, is_json: bool) -> None:
    """Fetch what another cell lends as REF, straight from there, verified. The last line is the path."""
    output = Output.of(context, is_json=is_json)
    options = Options(pulls=PullOptions(bwlimit_bytes_per_s=bwlimit, priority=context.meta[PRIORITY]))
    with Endings() as endings, joined(parent, timeout_s=timeout_s, options=options) as here:
        found = here.cell.downloads.find(ref.origin, ref.name, timeout_s=timeout_s)
        fetch = planned(chosen(files_of(found, ref), items, ref), out)
        if span is not None:
            fetch = part_of(fetch, span, context)
        check(fetch, is_overwriting=is_overwriting, context=context)
        began = time.monotonic()
        with output.bar(ref.name, fetch.bytes_total) as bar:
            endings.run(lambda abort: _pull(here, fetch, Wishes(is_overwriting, is_resumable, abort), told=bar))
        seconds = time.monotonic() - began
        ways = sorted({each.way for each in here.cell.downloads.transfers if each.way})
        output.remark(f"{size_text(fetch.bytes_total)} from {ref.origin} in {duration_text(seconds)} "
                      f"({size_text(fetch.bytes_total / max(seconds, 1e-9))}/s), "
                      f"{' and '.join(WORDS[way] for way in ways) or 'nothing to move'}")
        path = str(fetch.folder or fetch.places[0])
        output.result(path, {"path": path, "files": [str(each) for each in fetch.places], "bytes": fetch.bytes_total,
                             "seconds": seconds, "ways": ways})


def files_of(body: object, lent: Lent) -> tuple[Ref, ...]:
    """The files in what was published.

    Raises:
        click.ClickException: there are none, or too many.
    """
    files = body.get("files") if isinstance(body, dict) else None
    listed = files if isinstance(files, list) else []
    refs = tuple(each for each in listed if isinstance(each, Ref) and each.kind in ("file", "folder"))
    if not refs:
        raise click.ClickException(f"what {lent.origin} has published as {lent.name} are no files")
    if len(refs) > FILES_MAX:
        raise click.ClickException(f"{lent.origin} lends {len(refs)} files as {lent.name}, FILES_MAX={FILES_MAX} are fetched")
    return refs


def chosen(refs: Sequence[Ref], items: Sequence[str], lent: Lent) -> tuple[Ref, ...]:
    """Those of a name that one of these patterns matches; all of them without a pattern.

    Raises:
        click.ClickException: there are none.
    """
    found = tuple(ref for ref in refs if not items or any(fnmatchcase(ref.name, item) for item in items))
    if not found:
        names = ", ".join(safe_name(ref.name, index) for index, ref in enumerate(refs[:NAMES_SHOWN_MAX]))
        more = f" and {len(refs) - NAMES_SHOWN_MAX} more" if len(refs) > NAMES_SHOWN_MAX else ""
        raise click.ClickException(f"--item {' '.join(items)} matches nothing in {lent.name} of {lent.origin}: {names}{more}")
    return found


def part_of(fetch: Fetch, span: slice, context: click.Context) -> Fetch:
    """Some bytes of one file, to the place where all of it would go.

    Raises:
        click.UsageError: it is not one file, or has no such bytes.
    """
    (ref, *others) = fetch.refs
    if others or ref.kind != "file":
        what = f"{len(fetch.refs)} files and folders are" if others else "a folder is"
        raise click.UsageError(f"--range is for one file, and {what} lent; choose one with --item", context)
    part = ref[span]
    if (span.start or 0) >= ref.length or (span.stop or 0) > ref.length:
        raise click.UsageError(f"--range ends behind the {ref.length} bytes of {safe_name(ref.name)}", context)
    return Fetch((part,), fetch.places, fetch.folder)


def planned(refs: Sequence[Ref], out: Path) -> Fetch:
    """Where each file goes: one file to `out`, or into it if it is a folder; several into the folder `out`.

    One folder goes to `out`: what is in the one will be in the other.
    """
    if len(refs) == 1:
        place = out / safe_name(refs[0].name, 0) if out.is_dir() and refs[0].kind == "file" else out
        return Fetch(tuple(refs), (place,), None)
    names: dict[str, None] = {}
    for index, ref in enumerate(refs):
        name = safe_name(ref.name, index)
        names[name if name not in names else f"{index}-{name}"] = None
    return Fetch(tuple(refs), tuple(out / name for name in names), out)


def check(fetch: Fetch, *, is_overwriting: bool, context: click.Context) -> None:
    """Look before a byte is asked for.

    Raises:
        click.UsageError: a place is taken, or cannot be written.
    """
    folder = fetch.folder or fetch.places[0].parent
    if fetch.folder is not None and os.path.lexists(folder) and not folder.is_dir():
        raise click.UsageError(f"{folder} is a file; {len(fetch.refs)} files need a folder", context)
    # A folder may be fetched into one that is there: what of it is in the way is told later, by its name.
    taken = [place for ref, place in zip(fetch.refs, fetch.places) if os.path.lexists(place) and not (
        fetch.folder is None and ref.kind == "folder" and place.is_dir())]
    if taken and not is_overwriting:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise click.UsageError(f"{taken[0]} exists{more}; --overwrite replaces", context)
    there = folder if folder.is_dir() or fetch.folder is None else folder.parent
    if not there.is_dir():
        raise click.UsageError(f"there is no folder {there}", context)
    if not os.access(there, os.W_OK | os.X_OK):
        raise click.UsageError(f"the folder {there} cannot be written", context)


def _pull(here: Joined, fetch: Fetch, wishes: Wishes, *, told: Callable[[int], None]) -> None:
    """Fetch all of it; of several, nothing is moved to its place before all of them are there."""
    downloads, folder = here.cell.downloads, fetch.folder

    def pull(ref: Ref, place: Path, before: int, *, is_resumable: bool, is_overwriting: bool) -> Path:
        """Fetch one."""
        fetched = downloads.pull_folder if ref.kind == "folder" else downloads.pull_file
        return fetched(ref, place, overwrite=is_overwriting, resume=is_resumable, abort=wishes.abort,
                       progress=lambda done, _: told(before + done))

    if folder is None:
        pull(fetch.refs[0], fetch.places[0], 0, is_resumable=wishes.is_resumable, is_overwriting=wishes.is_overwriting)
        return
    beside = folder if folder.is_dir() else folder.parent
    with tempfile.TemporaryDirectory(prefix=f".{folder.name[:NAME_BYTES_MAX]}.", suffix=PART, dir=beside) as staging:
        before = 0
        fetched = []
        for ref, place in zip(fetch.refs, fetch.places, strict=True):
            fetched.append(pull(ref, Path(staging) / place.name, before, is_resumable=False, is_overwriting=False))
            before += ref.length
        folder.mkdir(exist_ok=True)
        for path, place in zip(fetched, fetch.places, strict=True):
            path.replace(place)
