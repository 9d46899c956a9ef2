"""``zdl put``: lend files and folders under a name until others have them.

Several files are several transactions with one audience: the command ends when each of them has been verified by so
many cells as ``--until`` says, or when the ``--ttl`` is over.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from zdl.cli.ending import Ending, Endings
from zdl.cli.failing import INTERRUPTED, Partial
from zdl.cli.joining import Joined, bwlimit_option, joined, parent_option, timeout_option
from zdl.cli.output import Output, output_options
from zdl.cli.units import DURATION, DURATION_S_MAX, duration_text, size_text
from zdl.download.folders import SYMLINKS
from zdl.download.transaction import Transaction
from zdl.options import OfferOptions, Options
from zdl.refs import Ref

# The word for a receiver that has all of it, verified.
FINISHED = "finished"
# Why a transaction has ended that somebody has deleted: here only `zdl ref rm` does.
DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long files stay lent.

    Attributes:
        receivers: until so many cells have them; 0 until the time is over.
        ttl_s: at most so long; None for as long as it takes.
    """

    receivers: int
    ttl_s: float | None


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True,
                type=click.Path(exists=True, readable=True, path_type=Path))
@click.option("--name", help="What others ask for; by default the name of the first file.")
@click.option("--until", metavar="N", type=click.IntRange(min=1),
              help="End when N cells have them; 1 unless there is a --ttl.")
@click.option("--symlinks", type=click.Choice(SYMLINKS), default=SYMLINKS[0], show_default=True,
              help="What to do with symbolic links in a folder.")
@click.option("--removable", "is_removable", is_flag=True, help="Let other cells end it: zdl ref rm.")
@click.option("--ttl", metavar="TIME", type=DURATION, help="End after this time, e.g. 1h.")
@bwlimit_option
@parent_option
@timeout_option
@output_options
@click.pass_context
def put(context: click.Context, *, paths: tuple[Path, ...], name: str | None, until: int | None, symlinks: str,
        is_removable: bool, ttl: float | None, bwlimit: float, parent: str, timeout_s: float, is_json: bool) -> int:
    """Lend files and folders until others have them. The last line is what they give to zdl get."""
    names = [path.resolve().name for path in paths]
    same = sorted({each for each in names if names.count(each) > 1})
    if same:
        raise click.UsageError(f"two files are named {same[0]}; their receiver could not tell them apart", context)
    published = names[0] if name is None else name
    if not published or not published.isprintable():
        raise click.UsageError(f"--name {published!r} is empty or has characters that do not print", context)
    output = Output.of(context, is_json=is_json)
    keeping = Keeping(until or (0 if ttl is not None else 1), ttl)
    options = Options(offers=OfferOptions(removable=is_removable, bwlimit_bytes_per_s=bwlimit))
    with Endings() as endings, joined(parent, timeout_s=timeout_s, options=options) as here:
        transactions = lend(here, paths, keeping, symlinks=symlinks)
        refs = [each.body for each in transactions if isinstance(each.body, Ref)]
        here.cell.downloads.publish(published, {"files": refs})
        endings.collect()
        text = f"ref:{here.cell.fqcn}/{published}"
        total = sum(ref.length for ref in refs)
        output.remark(f"lends {counted(refs)}, {size_text(total)}, through {here.dialled}")
        output.result(text, {"ref": text, "files": [ref.name for ref in refs], "bytes": total})
        _watch(transactions, endings)
        ending = endings.wait(ttl)
    return _verdict(ending, transactions, keeping)


def lend(here: Joined, paths: Sequence[Path], keeping: Keeping, *, symlinks: str) -> list[Transaction]:
    """Lend each file or folder.

    Raises:
        OptionError: one cannot be read, or is neither.
    """
    downloads = here.cell.downloads
    # The command itself is the lease: as long as it runs, nobody who takes his time loses anything.
    return [downloads.lend_folder(path, receivers=keeping.receivers, lease_s=DURATION_S_MAX, symlinks=symlinks) if path.is_dir()
            else downloads.lend_file(path, receivers=keeping.receivers, lease_s=DURATION_S_MAX) for path in paths]


def counted(refs: Sequence[Ref]) -> str:
    """``1 file``, ``2 files and 1 folder``."""
    folders = sum(ref.kind == "folder" for ref in refs)
    counts = ((len(refs) - folders, "file"), (folders, "folder"))
    return " and ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in counts if count)


def _watch(transactions: Sequence[Transaction], endings: Endings) -> None:
    """End when all of them have ended."""
    def wait() -> None:
        for each in transactions:
            each.wait()
        endings.put(Ending.DONE)

    threading.Thread(target=wait, name="zdl-put-watch", daemon=True).start()


def _verdict(ending: Ending, transactions: Sequence[Transaction], keeping: Keeping) -> int:
    """The exit code, once the cell is closed.

    Raises:
        Partial: the time was over before all had it, or another cell has ended it.
    """
    if ending is Ending.INTERRUPTED:
        return INTERRUPTED
    ended = [each.outcome for each in transactions if each.outcome is not None and each.outcome.reason == DELETED]
    if ending is Ending.DONE and ended:
        raise Partial(f"another cell has ended it; {min(len(each.finished) for each in ended)} receivers have it")
    if ending is Ending.TIME and keeping.receivers and keeping.ttl_s is not None:
        least = min(sum(outcome.value == FINISHED for outcome in each.receivers.values()) for each in transactions)
        raise Partial(f"{least} of {keeping.receivers} receivers have it after {duration_text(keeping.ttl_s)}")
    return 0
