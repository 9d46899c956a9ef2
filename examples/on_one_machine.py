"""A server and its workers on one machine: a model is copied once for all of them, or not at all, and never sent.

Prints::

    worker-0 has 64 MiB, by memory
    worker-1 has 64 MiB, by memory
    what worker-0 writes, worker-1 does not see: 7.0 and 1.0
    the workers share 64 MiB
    born in shared memory: no copy, and read-only while it is lent: True
    worker-2 does not want it, so it is sent: direct
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zdl import Cell, Options, PullOptions

ANY_PORT = "tcp://127.0.0.1:0"
MIB = 1 << 20
FAR = Options(pulls=PullOptions(same_host=False))


def main() -> None:
    """Nothing is configured; where it cannot be had, or is not wanted, `Transfer.why_not_shared` says why."""
    with (Cell("server", listen=ANY_PORT) as server, Cell("worker-0", parent=server.addresses[0]) as one,
          Cell("worker-1", parent=server.addresses[0]) as two,
          Cell("worker-2", parent=server.addresses[0], options=FAR) as far):
        for cell in (one, two, far):
            cell.wait_ready()
        lent = server.downloads.lend({f"layer.{number}": np.ones(4 * MIB, np.float32) for number in range(4)}, receivers=0)
        found: list[Any] = []
        for cell in (one, two):
            found.append(cell.downloads.pull(lent.body))
            transfer = cell.downloads.transfers[-1]
            print(f"{cell.fqcn} has {transfer.bytes_done // MIB} MiB, by {transfer.way}")
        found[0]["layer.2"][0] = 7
        print(f"what worker-0 writes, worker-1 does not see: {found[0]['layer.2'][0]} and {found[1]['layer.2'][0]}")
        print(f"the workers share {server.lane.segments.nbytes // MIB} MiB")
        lent.delete()

        weights = server.downloads.empty((4 * MIB,), "float32")
        weights[:] = 2.5
        lent = server.downloads.lend(weights, receivers=0)
        mine: Any = one.downloads.pull(lent.body)
        assert mine[-1] == 2.5 and one.downloads.transfers[-1].way == "memory"
        print(f"born in shared memory: no copy, and read-only while it is lent: {not weights.flags.writeable}")
        far.downloads.pull(lent.body)
        print(f"worker-2 does not want it, so it is sent: {far.downloads.transfers[-1].way}")
        lent.delete()


if __name__ == "__main__":
    main()
