"""Lend a state dict, pull one array of it, then the rest: the lender knows when it may forget it.

Prints::

    lent: 3 arrays, 48.0 MiB by reference
    one array: (1024, 1024) float32, sum 1048576.0
    the whole: ['bias', 'embed', 'head'], all equal: True
    the lender was told: finished by site-1
"""

from __future__ import annotations

import numpy as np

from zdl import Cell, Ref
from zdl.objects.externalize import find_refs


def main() -> None:
    """The refs travel in an ordinary message; the bytes move when somebody pulls."""
    state = {"embed": np.ones((1024, 1024), np.float32), "head": np.full((11, 1024, 1024), 2, np.float32),
             "bias": np.zeros(1024, np.float32)}
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        lent = server.downloads.lend(state, receivers=["site-1"])
        refs = find_refs(lent.body)
        print(f"lent: {len(refs)} arrays, {sum(ref.nbytes for ref in refs) / 2**20:.1f} MiB by reference")
        server.downloads.publish("model", lent.body)

        body = site.downloads.find("server", "model")
        assert isinstance(body, dict) and isinstance(body["embed"], Ref)
        one = site.downloads.pull(body["embed"])
        assert isinstance(one, np.ndarray)
        print(f"one array: {one.shape} {one.dtype}, sum {one.sum()}")

        whole = site.downloads.resolve(body)
        assert isinstance(whole, dict)
        is_equal = all(np.array_equal(whole[name], state[name]) for name in state)
        print(f"the whole: {sorted(whole)}, all equal: {is_equal}")
        outcome = lent.wait(timeout_s=10)
        print(f"the lender was told: {outcome.outcome.value} by {', '.join(outcome.receivers)}")


if __name__ == "__main__":
    main()
