"""Lend a model file: one cell takes a tensor of it, one takes them all, one the file as it is.

Prints::

    lent: model.npz, 4 tensors, 15.6 MiB, without reading them
    one tensor: h.0 (1000, 1000) float32
    all of them: ['h.0', 'h.1', 'h.2', 'wte']
    the file: same bytes
    done: finished by site-1, site-2
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from zdl import Cell, Ref


def main() -> None:
    """The same with a .safetensors file, which most models come as."""
    state = {f"h.{layer}": np.full((1000, 1000), layer, np.float32) for layer in range(3)}
    with tempfile.TemporaryDirectory() as folder, Cell("server", listen="tcp://127.0.0.1:0") as server, \
            Cell("site-1", parent=server.addresses[0]) as one, Cell("site-2", parent=server.addresses[0]) as two:
        path = Path(folder) / "model.npz"
        np.savez(path, wte=np.ones((1000, 1100), np.float32), **state)

        lent = server.downloads.lend_file(path, receivers=["site-1", "site-2"], as_tensors=True)
        server.downloads.publish("model", lent.body)
        body = one.downloads.find("server", "model")
        assert isinstance(body, dict)
        tensors: dict[str, Ref] = body["tensors"]
        size = sum(ref.nbytes for ref in tensors.values())
        print(f"lent: {body['file'].name}, {len(tensors)} tensors, {size / 2**20:.1f} MiB, without reading them")

        first = one.downloads.pull(tensors["h.0"])
        assert isinstance(first, np.ndarray)
        print(f"one tensor: h.0 {first.shape} {first.dtype}")
        whole = one.downloads.resolve(tensors)
        assert isinstance(whole, dict)
        print(f"all of them: {sorted(whole)}")

        copy = two.downloads.pull_file(body["file"], Path(folder) / "copy.npz")
        print(f"the file: {'same' if copy.read_bytes() == path.read_bytes() else 'other'} bytes")
        outcome = lent.wait(timeout_s=10)
        print(f"done: {outcome.outcome.value} by {', '.join(sorted(outcome.receivers))}")


if __name__ == "__main__":
    main()
