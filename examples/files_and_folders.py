"""Lend a file and a folder; a pull that was aborted is gone on with; a file that changes is never a mixture.

Prints::

    data.bin: 8000000 bytes, aborted after half of it, left: .copy.bin.zdl-part .copy.bin.zdl-resume
    gone on with, equal: True, left: copy.bin
    folder shard: ['a', 'a/deep', 'empty']
    changed: SourceChanged, nothing left: True
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from zdl import Cancelled, Cell, Signal, SourceChanged


def listing(folder: Path) -> list[str]:
    """All that is in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def show(server: Cell, site: Cell, lent: Path, got: Path) -> None:
    """Files first, then a folder, then what must not be."""
    data = lent / "data.bin"
    data.write_bytes(os.urandom(8_000_000))
    ref = server.downloads.lend_file(data).body
    abort = Signal()
    try:
        site.downloads.pull_file(ref, got / "copy.bin", resume=True, abort=abort,
                                 progress=lambda done, total: abort.trigger() if done * 2 > total else None)
    except Cancelled:
        print(f"{ref.name}: {ref.nbytes} bytes, aborted after half of it, left: {' '.join(listing(got))}")
    copy = site.downloads.pull_file(ref, got / "copy.bin", resume=True)
    print(f"gone on with, equal: {copy.read_bytes() == data.read_bytes()}, left: {' '.join(listing(got))}")

    (lent / "shard" / "a").mkdir(parents=True)
    (lent / "shard" / "a" / "deep").write_bytes(b"x" * 1000)
    (lent / "shard" / "empty").touch()
    shard = server.downloads.lend_folder(lent / "shard").body
    print(f"{shard.kind} {shard.name}: {listing(site.downloads.pull_folder(shard, got / 'shard'))}")

    changing = server.downloads.lend_file(data).body
    data.write_bytes(b"other")
    try:
        site.downloads.pull_file(changing, got / "changed")
    except SourceChanged as error:
        print(f"changed: {type(error).__name__}, nothing left: {not (got / 'changed').exists()}")


def main() -> None:
    """Two cells, and a folder for each."""
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        with tempfile.TemporaryDirectory() as lent, tempfile.TemporaryDirectory() as got:
            show(server, site, Path(lent), Path(got))


if __name__ == "__main__":
    main()
