"""A storm: connections of both lanes break and bytes come wrong while everybody asks, lends and pulls.

Whatever happens, each act ends well or with an error that has a name, no byte is wrong, and when the storm is over
everything works again and nothing is still lent.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.errors import ZdlError
from zdl.options import LinkOptions, OfferOptions, Options, PullOptions
from zdl.refs import Ref

from chaos import Chaos
from trees import Trees
from waiting import PATIENCE_S, eventually

OPTIONS = Options(links=LinkOptions(heartbeat_s=0.5, redial_max_s=0.2), offers=OfferOptions(lease_s=2.0, lost_grace_s=1.0),
                  pulls=PullOptions(lost_timeout_s=2.0, retry_s=0.5))
ACTS = 60
SQUALLS = 12


class Storm:
    """server, site-1, site-2, site-1.w0: all that is dialled goes through a connection that can be spoilt."""

    def __init__(self, stack: ExitStack, trees: Trees) -> None:
        server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=OPTIONS))
        door = stack.enter_context(Chaos(server.addresses[0]))
        site = trees.add(Cell("site-1", parent=door.address, listen="tcp://127.0.0.1:0", options=OPTIONS))
        self.cells = [server, site, trees.add(Cell("site-2", parent=server.addresses[0], options=OPTIONS)),
                      trees.add(Cell("site-1.w0", parent=site.addresses[0], options=OPTIONS))]
        self.data = [stack.enter_context(Chaos(cell.data_addresses[0])) for cell in self.cells]
        self.doors = [door, *self.data]
        for cell, chaos in zip(self.cells, self.data, strict=True):
            cell.handler("zdl", "data-addresses", inline=True)(lambda request, chaos=chaos: [chaos.address])
            cell.handler("task", "double")(lambda request: {"w": request.body["w"] * 2})
        self.acts = itertools.count(1)
        self.acts_count = 0
        self.errors: list[ZdlError] = []
        self.wrong: list[str] = []

    def squall(self, rng: random.Random) -> None:
        """One thing goes wrong."""
        if rng.random() < 0.6:
            rng.choice(self.doors).reset()
        else:
            back = rng.choice(self.data).back
            back.flip([back.passed + rng.randrange(2_000_000) for _ in range(2)])

    def act(self, rng: random.Random) -> None:
        """One cell asks another one, or pulls from it."""
        one, other = rng.choice(self.cells), rng.choice(self.cells)
        array = np.full(rng.randrange(1, 300_000), rng.random())
        body = {"w": array}

        def pull() -> object:
            ref = other.downloads.lend(array, receivers=[one.fqcn]).body
            assert isinstance(ref, Ref)
            found = one.downloads.pull(ref)
            assert isinstance(found, np.ndarray)
            return {"w": found * 2}

        asks: list[Callable[[], object]] = [
            pull, lambda: one.request(other.fqcn, "task", "double", body).body,
            lambda: one.request_future(other.fqcn, "task", "double", body).result().body]
        try:
            found = rng.choice(asks)()
        except ZdlError as error:
            self.errors.append(error)
        else:
            assert isinstance(found, dict)
            if not np.array_equal(found["w"], array * 2):
                self.wrong.append(f"{one.fqcn} from {other.fqcn}")
        self.acts_count = next(self.acts)

    def works(self) -> bool:
        """Whether every cell reaches every other one, with bytes."""
        for one, other in itertools.product(self.cells, repeat=2):
            try:
                found = one.request(other.fqcn, "task", "double", {"w": np.ones(200_000)}).body
                assert isinstance(found, dict) and found["w"][7] == 2
            except ZdlError:
                return False
        return True


@pytest.fixture
def storm(trees: Trees) -> Iterator[Storm]:
    with ExitStack() as stack:
        yield Storm(stack, trees)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_act_in_a_storm_ends_well_or_with_a_name(storm: Storm, seed: int) -> None:
    def work(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        for _ in range(ACTS):
            storm.act(rng)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    rng = random.Random(seed)
    for squall in range(SQUALLS):
        least = squall * 4 * ACTS // (2 * SQUALLS)
        eventually(lambda least=least: storm.acts_count >= least, 4 * PATIENCE_S, what=f"act {least}")
        storm.squall(rng)
    for thread in threads:
        thread.join(4 * PATIENCE_S)
        assert not thread.is_alive(), "an act has no end"
    assert storm.wrong == []
    eventually(storm.works, what="the calm after the storm")
    eventually(lambda: not any(cell.downloads.transactions for cell in storm.cells), what="the end of all that was lent")
