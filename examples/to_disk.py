"""A model goes to the disk instead of to memory; the handler loads what it touches, and what it writes stays.

Prints::

    train got a DiskDict of 3 values; memory for one layer at a time
    sum of the layers: 12582912.0
    written into a layer and touched again: 7.0
    a file in the same message: notes.txt, saved whole: True
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from zdl import Cell, Request


def main() -> None:
    """The refs in the request are fetched to files without names, which are gone with their last user."""
    with tempfile.TemporaryDirectory() as folder, Cell("server", listen="tcp://127.0.0.1:0") as server, \
            Cell("site-1", parent=server.addresses[0]) as site:

        @site.handler("task", "train", resolve="disk")
        def train(request: Request) -> object:
            model = request.body["model"]
            print(f"train got a {type(model).__name__} of {len(model)} values; memory for one layer at a time")
            total = sum(float(model[name].sum()) for name in model)
            model["layer.0"][0, 0] = 7
            saved = request.body["notes"].save(Path(folder) / "saved.txt")
            return {"sum": total, "written": float(model["layer.0"][0, 0]), "saved": str(saved)}

        layers = {f"layer.{number}": np.full((2048, 2048), number, np.float32) for number in range(3)}
        notes = Path(folder) / "notes.txt"
        notes.write_text("what was trained on")
        body = {"model": server.downloads.lend(layers).body, "notes": server.downloads.lend_file(notes).body}
        reply = server.request("site-1", "task", "train", body)
        print(f"sum of the layers: {reply.body['sum']}")
        print(f"written into a layer and touched again: {reply.body['written']}")
        is_whole = Path(reply.body["saved"]).read_text() == notes.read_text()
        print(f"a file in the same message: {notes.name}, saved whole: {is_whole}")


if __name__ == "__main__":
    main()
