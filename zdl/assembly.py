"""Assembly: the cell that users get: a `BareCell` with the services that everybody needs mounted on it.

The one place that knows both the cell and what stands above it; nothing below imports it.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from weakref import proxy

from zdl.cell.cell import BareCell
from zdl.cell.messages import Request
from zdl.cell.tree import CHANNEL, PING_TOPIC
from zdl.download import tensors
from zdl.download.broker import DownloadBroker
from zdl.objects.typetable import TypeTable
from zdl.observe.snapshot import LinkFacts, ProcessFacts, RunningFacts, Snapshot, TrafficFacts, TransferFacts
from zdl.options import Options
from zdl.streaming.service import Streams

# What every cell answers about itself, to any cell of its fabric, beside a ping.
SNAPSHOT_TOPIC = "snapshot"
BELOW_TOPIC = "below"
WAY_TOPIC = "way"


class Cell(BareCell):
    """A participant of a fabric, with its download service; see `BareCell` for arguments and calls.

    Attributes:
        downloads: lends objects, and pulls what others lend.
        streams: pushes bytes and objects to others, and takes in what they push.
    """

    def __init__(self, fqcn: str, *, parent: str | None = None, listen: str | Sequence[str] = (),
                 data_listen: str | Sequence[str] = (), insecure: bool = False, advertise: str | None = None,
                 options: Options | None = None, types: TypeTable = TypeTable()) -> None:
        super().__init__(fqcn, parent=parent, listen=listen, data_listen=data_listen, insecure=insecure,
                         advertise=advertise, options=options, types=replace(types, tensors=tensors))
        me = proxy(self)  # what runs for a cell must not keep it alive: see `zdl.cell.life`
        self.downloads = DownloadBroker(me)
        self.streams = Streams(me, self.downloads)
        self.handler(CHANNEL, SNAPSHOT_TOPIC)(lambda request: me.snapshot().plain())
        self.handler(CHANNEL, BELOW_TOPIC)(lambda request: list(me.tree.below()))
        self.handler(CHANNEL, WAY_TOPIC)(lambda request: asdict(me.tree.way(request.body)))
        self.handler(CHANNEL, PING_TOPIC, inline=True)(_pong)

    def snapshot(self) -> Snapshot:
        """What this cell knows about itself now."""
        control, data = self.traffic
        traffic = [TrafficFacts(each.fqcn, lane, each.bytes_in, each.bytes_out, each.messages_in, each.messages_out)
                   for lane, many in (("control", control), ("data", data)) for each in many]
        links = [LinkFacts(each.fqcn, each.lane, each.role, each.state, each.address) for each in self.peers]
        now = time.monotonic()
        transfers = [TransferFacts(each.origin, each.label, each.bytes_total, each.bytes_done, each.way, each.why,
                                   each.seconds, str(each.error or ""), each.why_not_shared, now - each.started_at,
                                   now - each.moved_at)
                     for each in self.downloads.transfers]
        return Snapshot(self.fqcn, self.incarnation, self.addresses, self.data_addresses, tuple(links), tuple(traffic),
                        tuple(transfers), len(self.downloads.transactions), self.parent_error, process_facts(),
                        self.tree.below_count,
                        tuple(RunningFacts(each.what, each.age_s) for each in self.downloads.running))

    def _mount_services(self) -> None:
        self.downloads.attach()
        self.mount(self.downloads, lender=self.downloads)
        self.streams.attach()
        self.mount(self.streams)


def process_facts() -> ProcessFacts:
    """This process, as the system accounts for it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    facts = {}
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                facts[name] = int(value.split()[0]) * 1024
    peak = facts.get("VmHWM", usage.ru_maxrss * 1024)
    return ProcessFacts(os.getpid(), usage.ru_utime + usage.ru_stime, facts.get("VmRSS", peak), peak)


def _pong(request: Request) -> object:
    return None
