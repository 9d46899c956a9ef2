"""Classes of one's own in messages: a dataclass and an enum as they are, a third class that is lent however small it is.

Prints::

    the site got: Round 3 in phase TRAIN, 8 MiB: an array
    the site forwards: <Unbuilt Round>, nothing of it was fetched
    back: Round(number=4, phase=<Phase.VALIDATE: 2>), mean 1.5
    tokens: [2, 3, 5], fetched from site-1
    without registration: a value of type Stranger cannot travel
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from zdl import CannotPack, Cell, TypeTable


class Phase(Enum):
    TRAIN = 1
    VALIDATE = 2


@dataclass
class Round:
    number: int
    phase: Phase
    weights: Any = field(repr=False)


class Tokens:
    def __init__(self, ids: Any) -> None:
        self.ids = ids


class Stranger:
    pass


TYPES = TypeTable().with_types(Round, Phase).with_type(
    Tokens, name="tokens", to_plain=lambda tokens: tokens.ids, from_plain=Tokens, is_lent=True)


def main() -> None:
    """Both cells have the table; the wire has no more of it than its names."""
    with Cell("server", listen="inproc://types", types=TYPES) as server, \
            Cell("site-1", parent="inproc://types", types=TYPES) as site:
        @site.handler("task", "train")
        def train(request: Any) -> object:
            done = request.body
            kind = "an array" if isinstance(done.weights, np.ndarray) else "not fetched"
            print(f"the site got: Round {done.number} in phase {done.phase.name}, {done.weights.nbytes >> 20} MiB: {kind}")
            return Round(done.number + 1, Phase.VALIDATE, done.weights * 1.5)

        @site.handler("task", "look", resolve=False)
        def look(request: Any) -> object:
            print(f"the site forwards: {request.body}, nothing of it was fetched")
            return request.body

        site.handler("task", "tokens")(lambda request: Tokens(np.array([2, 3, 5])))
        site.wait_ready()
        sent = Round(3, Phase.TRAIN, np.ones(1 << 20))
        back = server.request("site-1", "task", "train", sent).body
        server.request("site-1", "task", "look", sent, resolve=False)
        print(f"back: {back}, mean {back.weights.mean()}")
        reply = server.request("site-1", "task", "tokens", resolve=False).body
        print(f"tokens: {server.downloads.resolve(reply).ids.tolist()}, fetched from {reply.plain.origin}")
        try:
            server.request("site-1", "task", "train", Stranger())
        except CannotPack as error:
            print(f"without registration: {error.reason.partition(';')[0].replace('__main__.', '')}")


if __name__ == "__main__":
    main()
