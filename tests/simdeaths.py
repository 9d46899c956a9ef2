"""Origins that die while others pull from them: each receiver knows it at once, however the tree grows. One seed is one history."""

from __future__ import annotations

from simworld import World

from zdl.fqcn import ROOT
from zdl.protocol.fetching import State
from zdl.protocol.offers import Audience

# So many bytes take a while in chunks of 128.
LENT_BYTES = 20_000
# Four hops up and down, and what is collected on the way at each.
KNOWN_S = 0.5
# By now all have their place in the tree.
GROWN_S = 1.0


class Deaths(World):
    """One tree, one origin, some receivers below and above it; and nothing else that goes wrong.

    Attributes:
        told: how many pulls were under way when their origin died, and know it.

    Args:
        seed: of the tree, of who pulls which way, and of the moment.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed
        self.told = 0

    def run(self) -> Deaths:
        """Run it, and hold it against the promise.

        Raises:
            AssertionError: somebody does not know.
        """
        rng = self.rng
        self.is_router_like = rng.random() < 0.5
        names = [ROOT]
        for index in range(rng.choice((2, 3, 4, 5))):
            above = rng.choice(names)
            names.append(f"c{index}" if above == ROOT else f"{above}.c{index}")
        for name in names:
            self.start(name)
            self.run_until(self.now + 0.05)
        self.run_until(GROWN_S)
        origin = self.cells[rng.choice(names)]
        lent = self.lend(origin, [LENT_BYTES], Audience(count=0))
        for name in names:
            if name != origin.fqcn:
                self.pull(self.cells[name], lent.sources[0], is_direct=rng.random() < 0.5)
        self.run_until(GROWN_S + 0.001 + rng.random() * 0.1)
        if rng.random() < 0.3:
            self.close(origin)
        else:
            self.kill(origin, is_silent=False)
        died_at = self.now
        self.run_until(died_at + KNOWN_S)
        self._must_know(origin.fqcn, died_at)
        return self

    def _must_know(self, origin: str, died_at: float) -> None:
        """D18: the death of an origin reaches its receivers along the tree, at once; and what they have is what was lent."""
        for (receiver, number), pull in self.pulls.items():
            if pull.settled_at is not None and pull.settled_at < died_at:
                continue
            self.told += 1
            known = receiver.pulls._pulls.get(number)
            is_told = pull.is_settled or known is None or known.state is not State.PULLING or not known.is_wanting or (
                known.reach.no_way_since is not None or known.reach.is_told_lost)
            assert is_told, f"{receiver.fqcn} pulls from {origin}, and does not know after {KNOWN_S} s that it has died"
