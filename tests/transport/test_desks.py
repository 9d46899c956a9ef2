"""The two desks of the data lane: each gets what is its own, both get the news."""

from __future__ import annotations

from contextlib import ExitStack

from sides import Side

from zdl.errors import NoRoute, to_wire
from zdl.protocol.effects import Arrived, PushSettled, Unreachable
from zdl.protocol.messages import Bounce, Confirmed, Kind
from zdl.protocol.pushing import Taken
from zdl.transport.desks import DataDesk


class Desk:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def takes(self, header: bytes) -> bool:
        return False

    def incoming(self, message: object) -> None:
        self.seen.append(message)

    def perform(self, effect: object, now: float) -> list[object]:
        self.seen.append(effect)
        return []

    def tick(self, now: float) -> list[object]:
        return [now]

    def deadline(self) -> float | None:
        return 1.0


def test_effects_go_to_whom_they_concern() -> None:
    lane, streams = Desk(), Desk()
    desk = DataDesk(lane, streams)  # type: ignore[arg-type]
    no = to_wire(NoRoute(target="a", at="b"))
    of_lane = [Arrived(Confirmed("a", "b", 1)), Arrived(Bounce("a", "b", 1, int(Kind.ASK), *no))]
    of_streams = [Arrived(Taken("a", "b", 1, 0, 0, 0, 0, False)), Arrived(Bounce("a", "b", 1, int(Kind.ITEMS), *no)),
                  PushSettled(1, None, ())]
    news = [Unreachable("a", "b", False, "cut")]
    for effect in (*of_lane, *of_streams, *news):
        assert desk.perform(effect, 0.0) == []
    assert lane.seen == [*of_lane, *news] and streams.seen == [*of_streams, *news]
    assert desk.tick(3.0) == [3.0, 3.0] and desk.deadline() == 1.0
    desk.incoming(None)
    assert lane.seen[-1] is None


def test_a_real_lane_has_both() -> None:
    with ExitStack() as stack:
        side = Side(stack, "server")
        assert "0 streams out, 0 in" in repr(side.lanes.streams) and "0 pulls" in repr(side.lanes.lane)
