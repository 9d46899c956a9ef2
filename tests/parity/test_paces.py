"""Limits of bandwidth and priorities, through the public API and the command line."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from zdl import Cancelled, OfferOptions, OptionError, Options, Pace, PullOptions, Ref, Signal

from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20


@pytest.mark.parametrize("where", ["pull", "receiver", "origin", "file"])
def test_what_has_a_limit_is_no_faster(trees: Trees, where: str, tmp_path: Path) -> None:
    rate = 10.0 * MIB
    own = rate if where == "receiver" else float("inf")
    options = Options(pulls=PullOptions(bwlimit_bytes_per_s=own),
                      offers=OfferOptions(bwlimit_bytes_per_s=rate if where == "origin" else float("inf")))
    server, site = trees.grow("server", "site-1", options=options)
    array = np.arange(5 * MIB // 8)  # so much that it would come in shared memory, had it no limit
    lent = server.downloads.lend(array)
    assert isinstance(lent.body, Ref)
    began = time.monotonic()
    if where == "file":
        site.downloads.pull_file(lent.body, tmp_path / "copy", pace=Pace(rate))
        assert (tmp_path / "copy").read_bytes() == array.tobytes()
    else:
        found = site.downloads.pull(lent.body, pace=Pace(rate) if where == "pull" else None)
        assert np.array_equal(found, array)  # type: ignore[arg-type]
    least_s = 0.2 if where == "origin" else 0.4  # the origin does not choose how long the last chunk is
    assert time.monotonic() - began >= least_s, "5 MiB at 10 MiB/s, but for 50 ms at once"
    assert lent.wait(PATIENCE_S).is_complete


def test_what_is_urgent_overtakes_what_is_pulled_in_the_background(trees: Trees) -> None:
    server, lazy, quick = trees.grow("server", "site-1", "site-2", options=Options(
        offers=OfferOptions(bwlimit_bytes_per_s=4.0 * MIB), pulls=PullOptions(priority="background")))
    large, small = server.downloads.lend(np.zeros(256 * MIB, np.uint8)), server.downloads.lend(np.ones(MIB, np.uint8))
    abort, begun = Signal(), threading.Event()

    def pull() -> None:
        with pytest.raises(Cancelled):
            lazy.downloads.pull(large.body, abort=abort, progress=lambda done, total: begun.set())

    background = threading.Thread(target=pull)
    background.start()
    assert begun.wait(PATIENCE_S)
    found = quick.downloads.pull(small.body, pace=Pace(priority="interactive"))
    assert np.all(found == 1)  # type: ignore[arg-type]
    assert background.is_alive() and lazy.downloads.transfers[-1].bytes_done < 256 * MIB
    abort.trigger("enough was seen")
    background.join(PATIENCE_S)
    large.delete()
    eventually(lambda: not server.downloads.transactions)


@pytest.mark.parametrize(("pace", "name"), [
    ({"priority": "urgent"}, "priority"), ({"bwlimit_bytes_per_s": 1.0}, "bwlimit_bytes_per_s"),
    ({"bwlimit_bytes_per_s": float("nan")}, "bwlimit_bytes_per_s")])
def test_a_pace_that_cannot_work_is_refused(pace: dict[str, object], name: str) -> None:
    for kind in (Pace, PullOptions) if name == "priority" else (Pace, PullOptions, OfferOptions):
        with pytest.raises(OptionError) as caught:
            kind(**pace)  # type: ignore[arg-type]
        assert caught.value.name == name and caught.value.allowed
