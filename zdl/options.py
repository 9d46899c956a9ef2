"""Every default and every limit, as frozen values; the unit is last in every name.

The one source of numbers: the code, the command line's flags and the documentation all read these
classes. Each value says where it comes from. A value that cannot work is refused when it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from zdl.errors import OptionError

KIB = 1024
MIB = 1024 * KIB
# No peer may be silent for longer: a link is dropped after `LinkOptions.dead_beats` of these, whatever its peer has said, and
# a minute is well above what the slowest of lines needs.
HEARTBEAT_MAX_S = 60.0
# Longer it would pay to sleep, and take the core from others, whatever a wake-up costs.
SPIN_MAX_S = 0.01


def _positive(options: object) -> None:
    """Raises `OptionError` for any number that is not above zero."""
    for each in fields(options):  # type: ignore[arg-type]
        value = getattr(options, each.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
            raise OptionError(name=each.name, value=str(value), allowed="a number above 0")


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How links are made and watched.

    Attributes:
        heartbeat_s: every peer hears something from us at least this often; at most 60, since no peer believes more.
        suspect_beats: silence of so many heartbeats makes a peer suspect.
        dead_beats: silence of so many heartbeats ends the link. With checks on time, a dead peer is
            known within 3.5 heartbeats, as promised.
        hello_timeout_s: a link that is not welcomed in this time is given up and dialled again.
        redial_min_s: first pause before a lost parent is dialled again.
        redial_max_s: longest such pause; each is half fixed, half random, so that a thousand
            children of a restarted parent do not come at once.
        peers_max: links at one time.
        hops_max: how many cells may pass a message on.
        interest_max: how many origins are remembered per link, to be told when it is lost.
        subtree_max: how many cells below this one are noted by name; further ones are served all the same.
        subtree_batch_s: how long news from below is collected before it is told to the parent.
        challenge_s: how long a peer has to show that it is alive when another cell comes with its name.
        direct: whether messages may go over direct links, asked for along the tree.
        direct_after_count: so many requests and notices to one cell that is not linked, within `direct_within_s`, and
            a direct link to it is asked for.
        direct_within_s: see there.
        direct_idle_s: a direct link of ours over which we have sent nothing for so long is ended.
        direct_retry_s: how long the tree is used after a direct link could not be had; twice as long each time, up to
            16 times as long.
        direct_peers_max: direct links of the control lane at one time.
        introduction_s: how long an introduction may take, from the question to the link.
        spin_s: who waits for messages, and did not wait longer than this for the last one, looks again and again for so long
            before he sleeps. It saves a fifth to a third of the time of a small request, and costs the CPU of so short a
            wait; a nanosecond turns it off.
    """

    heartbeat_s: float = 2.0
    suspect_beats: float = 1.5
    dead_beats: float = 3.0
    hello_timeout_s: float = 3.0
    redial_min_s: float = 0.05
    redial_max_s: float = 5.0
    peers_max: int = 4096
    hops_max: int = 16
    interest_max: int = 4096
    subtree_max: int = 65_536
    subtree_batch_s: float = 0.02
    challenge_s: float = 1.0
    direct: bool = True
    direct_after_count: int = 8
    direct_within_s: float = 10.0
    direct_idle_s: float = 60.0
    direct_retry_s: float = 30.0
    direct_peers_max: int = 64
    introduction_s: float = 5.0
    spin_s: float = 0.0002

    def __post_init__(self) -> None:
        _positive(self)
        if self.spin_s > SPIN_MAX_S:
            raise OptionError(name="spin_s", value=str(self.spin_s), allowed=f"at most {SPIN_MAX_S} s: it takes a core")
        if self.heartbeat_s > HEARTBEAT_MAX_S:
            raise OptionError(name="heartbeat_s", value=str(self.heartbeat_s),
                              allowed=f"at most {HEARTBEAT_MAX_S:.0f} s: peers count who is silent for longer as lost")
        if not self.challenge_s < self.hello_timeout_s:
            raise OptionError(name="challenge_s", value=str(self.challenge_s),
                              allowed=f"below hello_timeout_s={self.hello_timeout_s}, or who waits for it gives up")
        if not self.suspect_beats < self.dead_beats <= 3.4:
            raise OptionError(name="dead_beats", value=str(self.dead_beats),
                              allowed="above suspect_beats and at most 3.4, or death is known too late")


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Requests and their handlers.

    Attributes:
        timeout_s: how long a request waits unless told otherwise (ancestor: 10 s per phase, three phases).
        calls_max: requests in flight from one cell.
        mailbox_max: pieces of work that wait for a loop.
        handler_threads_max: threads that run handlers; they are started as they are needed.
        handler_queue_max: requests that wait for a handler thread.
        origin_share: of ``handler_threads_max`` and ``handler_queue_max`` together, what the unanswered requests of one
            cell may take; what is above is answered `Busy`, so that a flood leaves places for the others; 1 is no limit.
        remembered_max: requests served lately that are recognised when they come a second time.
        answers_kept_max: answers to these that are kept, so that who asks a second time gets the first answer.
        answers_kept_bytes_max: their bytes in all; a single answer of more than a hundredth of this is not kept, and
            who asks for it a second time is not answered again.
        late_answers_max: answers that handlers have promised and not yet given (``request.later()``).
        told_max: reports of progress, or observations, that wait for one function of the user's; what is above is dropped.
        workflows_max: workflows that one cell may be part of at one time, and ended ones that it remembers.
        workflow_ttl_max_s: how long a workflow may last, whatever another cell says of it: a week.
    """

    timeout_s: float = 30.0
    calls_max: int = 20_000
    mailbox_max: int = 100_000
    handler_threads_max: int = 256
    handler_queue_max: int = 20_000
    origin_share: float = 0.75
    remembered_max: int = 4096
    answers_kept_max: int = 1024
    answers_kept_bytes_max: int = 16 * MIB
    late_answers_max: int = 20_000
    told_max: int = 1000
    workflows_max: int = 4096
    workflow_ttl_max_s: float = 7 * 86_400.0

    def __post_init__(self) -> None:
        _positive(self)
        if self.origin_share > 1:
            raise OptionError(name="origin_share", value=str(self.origin_share), allowed="above 0 and at most 1: a share")


# What may keep what is lent from changing; see `PackOptions.guard`.
GUARDS = ("check", "freeze", "copy", "none")
# What is noted of what is lent; see `PackOptions.digest`.
DIGESTS = ("xxh3", "blake3")


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How leaves of an object travel: inline in the skeleton, beside it as a frame, or as a ref.

    Attributes:
        inline_bytes_max: up to here inside the skeleton. Measured: 4 KiB costs 88 us a round trip inline
            and 93 us as a frame; at 128 KiB both cost the same and the copy begins to show.
        beside_bytes_max: up to here as a frame of its own. Measured: at 1 MiB 247 us beside, 297 us by
            reference; at 4 MiB they are equal, and a ref saves the copy at every hop.
        beside_sum_bytes_max: all frames beside one message together; what is above goes by reference.
        skeleton_bytes_max: the skeleton itself. msgpack needs up to 72 times the bytes of a hostile input.
        frame_bytes_max: one frame beside; libzmq closes a connection over which a larger one comes.
        frames_max: frames of one message.
        depth_max: how deep containers may be nested.
        lends: whether anything goes by reference; if not, all of it travels in the message, up to ``frame_bytes_max`` a leaf.
        tensors: what tensors that arrive come out as: ``torch``, or ``numpy`` for arrays where torch is not installed.
        guard: what keeps a receiver from getting a mixture when what is lent is changed: ``check``, ``freeze``, ``copy`` or
            ``none``; see `zdl.download.guards`.
        digest: what ``check`` notes of each block when it is lent: ``xxh3`` (measured: 35 ms per GiB) or ``blake3`` (150 ms, by all
            processors). Receivers who verify with the same cost the origin no more than the sending; for others it looks at
            each block again. So ``blake3`` is for those whose receivers all want it.
    """

    inline_bytes_max: int = 4 * KIB
    beside_bytes_max: int = 1 * MIB
    beside_sum_bytes_max: int = 4 * MIB
    skeleton_bytes_max: int = 16 * MIB
    frame_bytes_max: int = 16 * MIB
    frames_max: int = 4096
    depth_max: int = 100
    lends: bool = True
    tensors: str = "torch"
    guard: str = "check"
    digest: str = "xxh3"

    def __post_init__(self) -> None:
        _positive(self)
        if self.guard not in GUARDS:
            raise OptionError(name="guard", value=self.guard, allowed=" or ".join(map(repr, GUARDS)))
        if self.digest not in DIGESTS:
            raise OptionError(name="digest", value=self.digest, allowed=" or ".join(map(repr, DIGESTS)))
        if self.tensors not in ("torch", "numpy"):
            raise OptionError(name="tensors", value=self.tensors, allowed="'torch' or 'numpy'")
        if self.beside_bytes_max < self.inline_bytes_max:
            raise OptionError(name="beside_bytes_max", value=str(self.beside_bytes_max),
                              allowed=f"at least inline_bytes_max={self.inline_bytes_max}")


# Who goes first, the best first; see `PullOptions.priority`.
PRIORITIES = ("interactive", "normal", "background")
# Of a limit of bandwidth: there is none.
UNLIMITED_BYTES_PER_S = float("inf")


# A chunk takes 4 s at most then, well within `PullOptions.stall_timeout_s`.
BWLIMIT_MIN_BYTES_PER_S = 16 * KIB


def _check_limit(value: float) -> None:
    if not value >= BWLIMIT_MIN_BYTES_PER_S:
        raise OptionError(name="bwlimit_bytes_per_s", value=str(value), allowed=f"at least {BWLIMIT_MIN_BYTES_PER_S}, or inf")


def _check_priority(value: str) -> None:
    if value not in PRIORITIES:
        raise OptionError(name="priority", value=value, allowed=" or ".join(map(repr, PRIORITIES)))


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one pull may be over connections, and who goes before it; what the options of its cell say holds besides.

    Attributes:
        bwlimit_bytes_per_s: it asks for no more in a second.
        priority: ``interactive``, ``normal`` or ``background``; None: as the options of the cell say. See `PullOptions.priority`.
    """

    bwlimit_bytes_per_s: float = UNLIMITED_BYTES_PER_S
    priority: str | None = None

    def __post_init__(self) -> None:
        _check_limit(self.bwlimit_bytes_per_s)
        if self.priority is not None:
            _check_priority(self.priority)


# Connections of one pull: twice what is tried by itself.
LANES_MAX = 16
# How chunks may be verified; see `PullOptions.verify`.
VERIFY_KINDS = ("auto", "blake3", "xxh3", "none")


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How objects are pulled.

    Attributes:
        chunk_bytes: one piece on the wire, at most. Measured on tcp, ratio to a plain copy: 256 KiB 1.1,
            1 MiB 1.45, 4 MiB 1.26, 32 MiB 0.45 (it no longer stays in the cache).
        chunk_bytes_min: no piece is shorter, however slow the path: one is what the path carries in 10 ms, and the work for
            one chunk is small beside that.
        window_bytes_min: asked for and not yet here, at least and at first; then it follows the path: twice what that holds, and
            four chunks, which fill one host's pipe.
        window_bytes_max: at most; what one pull may hold in flight.
        direct_timeout_s: how long the direct way is tried before chunks are routed along the tree.
        retry_s: silence after which the oldest outstanding chunk is asked for again; doubled each time.
        stall_timeout_s: no verified byte for so long ends the pull.
        lost_timeout_s: no way to the origin for so long ends the pull.
        bad_chunks_max: so many wrong digests of one chunk end the pull.
        keep_alive_s: how often a receiver that has nothing to ask for renews its lease; well below the time
            after which an origin counts a receiver that was cut off as lost (``offers.lost_grace_s``).
        pulls_max: pulls at one time in one cell.
        verify: digest of each chunk: ``auto``, ``blake3``, ``xxh3`` or ``none``. ``auto`` is xxh3, keyed with the ref's secret, for
            what goes from memory to memory over a direct link, and blake3 for what is kept in files or passes other cells.
            Measured: 1 MiB takes 35 us with xxh3, 150 with blake3, at each end. With ``auto`` a file of this host is copied, and
            not hashed.
        bwlimit_bytes_per_s: what all pulls of the cell together ask for in a second; a single one may have a `Pace` of its own.
        priority: ``interactive``, ``normal`` or ``background``. While pulls with a better one are under way, in this cell or at
            the same origin, a pull gets one chunk in 0.1 s, which is a tenth of what the path carries.
        lanes: over how many connections to its origin a pull is spread: ``auto`` is one, and as many as help on a long way, up to
            8; or a number up to 16.
        direct: whether the origin may be dialled directly.
        partial_kept_s: what a pull with ``resume=True`` that did not get to its end has left on a disk is kept for so long
            after the last byte; after that the next pull into the same folder removes it.
        same_host: whether what an origin on the same machine lends comes in memory that both share, or as the file that it is,
            where that works. What has a limit of bandwidth, or is to have another digest than ``auto``, is sent.
        same_host_bytes_min: what is less in all comes over sockets. Measured between two processes, medians in ms, memory of an
            earlier offer, memory made anew, sockets: 256 KiB 1.6, -, 1.1; 1 MiB 1.8, 3.7, 2.3; 4 MiB 2.4, 8.3, 3.4; 16 MiB 4.4,
            16.5, 9.1. So it saves from 1 MiB on where memory is at hand, and costs where not, but for what is pulled by several.
    """

    chunk_bytes: int = 1 * MIB
    chunk_bytes_min: int = 64 * KIB
    window_bytes_min: int = 512 * KIB
    window_bytes_max: int = 64 * MIB
    direct_timeout_s: float = 1.0
    retry_s: float = 10.0
    stall_timeout_s: float = 60.0
    lost_timeout_s: float = 6.0
    bad_chunks_max: int = 3
    keep_alive_s: float = 2.0
    pulls_max: int = 10_000
    verify: str = "auto"
    bwlimit_bytes_per_s: float = UNLIMITED_BYTES_PER_S
    priority: str = "normal"
    lanes: str | int = "auto"
    direct: bool = True
    partial_kept_s: float = 7 * 86400.0
    same_host: bool = True
    same_host_bytes_min: int = 4 * MIB

    def __post_init__(self) -> None:
        _positive(self)
        if self.chunk_bytes > CHUNK_BYTES_MAX:
            raise OptionError(name="chunk_bytes", value=str(self.chunk_bytes), allowed=f"at most {CHUNK_BYTES_MAX}")
        if self.lanes != "auto" and not (isinstance(self.lanes, int) and 1 <= self.lanes <= LANES_MAX):
            raise OptionError(name="lanes", value=repr(self.lanes), allowed=f"'auto', or a number from 1 to {LANES_MAX}")
        _check_priority(self.priority)
        _check_limit(self.bwlimit_bytes_per_s)
        if self.verify not in VERIFY_KINDS:
            raise OptionError(name="verify", value=self.verify, allowed=" or ".join(map(repr, VERIFY_KINDS)))
        if self.window_bytes_min < min(self.chunk_bytes, self.chunk_bytes_min) or self.window_bytes_max < self.window_bytes_min:
            raise OptionError(name="window_bytes_min", value=str(self.window_bytes_min),
                              allowed="between chunk_bytes_min and window_bytes_max")
        if self.window_bytes_max < self.chunk_bytes:
            raise OptionError(name="window_bytes_max", value=str(self.window_bytes_max), allowed="at least chunk_bytes")


@dataclass(frozen=True, slots=True)
class OfferOptions:
    """How objects are lent.

    Attributes:
        lease_s: a transaction that nobody pulls from, renews or confirms for so long ends.
        lease_min_s: what a message of a workflow lends is lent for at least so long, however soon that ends; what queues before
            the first byte is asked for must fit into it. A lease that is given by itself may be shorter.
        transactions_max: open transactions in one cell.
        offers_max: open offers in one cell.
        receivers_max: receivers remembered per transaction.
        lost_grace_s: a receiver whose way is lost may come back within this time, over another way or a
            restarted relay; then it counts as lost. Less than the 7 s in which a death must be known.
        tombstone_s: how long the end of an offer is remembered, to tell late askers which end it had
            (the ancestor remembers half an hour).
        tombstones_max: how many ends are remembered.
        gathered_bytes_max: memory for parts of arrays that had to be gathered for receivers who have not fetched them yet.
            One receiver takes 64 MiB of it at most.
        serving_bytes_max: bytes that one receiver has asked for and that are being read; as many again wait for their turn,
            and what is above that is denied.
        drain_s: how long the end of a transaction waits for what is being read of it (a user's production, a disk); then it
            settles, and what is still read is released when that is over (as long as the ancestor waits).
        produce_threads_max: threads that run the code of users who lend objects of their own, piece by piece.
        produce_bytes_max: pieces travel together until they have so many bytes; one piece may have any number.
        same_host: whether receivers on the same machine may have what is lent in memory that they share with this cell, or as the
            file that it is. What has a limit of bandwidth is sent.
        segments_bytes_max: all such memory together, what is kept for the next offer too. What the machine has left is looked at
            besides, which is the limit on most machines; this one was chosen, not measured: room for a model of 8 billion
            parameters in two bytes each.
        segments_kept_s: such memory is kept for so long after its offer, for the next one. Measured: to fill fresh memory takes
            0.5 to 0.8 s per GiB, such as was used before 0.05 to 0.07.
        removable: whether other cells may end what this one lends (``zdl ref rm``): without keys, whoever is connected.
        bwlimit_bytes_per_s: what the cell serves in a second, to all receivers together.
    """

    lease_s: float = 600.0
    lease_min_s: float = 60.0
    transactions_max: int = 10_000
    offers_max: int = 100_000
    receivers_max: int = 4096
    lost_grace_s: float = 5.0
    tombstone_s: float = 1800.0
    tombstones_max: int = 100_000
    gathered_bytes_max: int = 1024 * MIB
    serving_bytes_max: int = 256 * MIB
    drain_s: float = 60.0
    produce_threads_max: int = 64
    produce_bytes_max: int = 16 * MIB
    same_host: bool = True
    segments_bytes_max: int = 16 * 1024 * MIB
    segments_kept_s: float = 30.0
    removable: bool = False
    bwlimit_bytes_per_s: float = UNLIMITED_BYTES_PER_S

    def __post_init__(self) -> None:
        _positive(self)
        _check_limit(self.bwlimit_bytes_per_s)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How things are pushed.

    Attributes:
        window_bytes: what one stream's receiver grants: bytes sent and not yet consumed there; an item counts 64 more than it has.
            Fixed: over 1 Gbit/s with 20 and 100 ms, 8 MiB carry what 32 do and what a pull does, whose window tunes itself, as
            long as the kernels hold their usual 2 MiB of a connection (94, 95, 93 and 20, 20, 19 MB/s).
        item_bytes_max: one item of a stream.
        backlog_bytes_max: the memory that a stream of objects takes at its sender while one receiver lags and others are ahead.
            Objects wait once for all receivers; those up to 64 KiB are gathered, without book-keeping of their own; two fifths
            are for what allocators lose (see `zdl.protocol.lag`). Of larger ones, frames below 64 KiB are copied for each of them.
        lag_timeout_s: three fifths of that may wait for a receiver that lags; then one that moves paces the others, and one that
            has consumed nothing for so long is ended with `Busy`. Measured: seven that are awake have put that much between
            themselves and an eighth that sleeps after 2 s, with objects of 1 KiB; so they never wait for it.
        blob_bytes_max: the largest blob that is taken in; checked before memory is taken.
        stall_timeout_s: bytes of which none is consumed for so long end the stream, at both ends.
        silent_timeout_s: a peer that says nothing for so long, though there is a way to it, has ended the stream by it.
        lost_timeout_s: no way to the peer for so long ends the stream.
        keep_alive_s: how often a sender that has nothing to send says that it is there.
        pushes_max: streams out at one time in one cell.
        intakes_max: streams in at one time in one cell; also the threads that run what users have registered for them.
        no_wait_max: streams at one time that `stream_no_wait` has begun.
        tombstones_max: how many ends are remembered, to say them again.
        direct: whether receivers may be dialled directly.
    """

    window_bytes: int = 8 * MIB
    item_bytes_max: int = 8 * MIB
    backlog_bytes_max: int = 64 * MIB
    lag_timeout_s: float = 2.0
    blob_bytes_max: int = 1024 * MIB
    stall_timeout_s: float = 60.0
    silent_timeout_s: float = 20.0
    lost_timeout_s: float = 6.0
    keep_alive_s: float = 2.0
    pushes_max: int = 10_000
    intakes_max: int = 256
    no_wait_max: int = 20
    tombstones_max: int = 1024
    direct: bool = True

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """What is fetched to a disk instead of to memory, and has no name there.

    Attributes:
        spool_folder: where. By default where the system keeps what is temporary and too large for memory; ``/tmp`` is memory
            on many.
        spool_bytes_max: room that one cell takes at one time.
    """

    spool_folder: str = "/var/tmp"
    spool_bytes_max: int = 1 << 40

    def __post_init__(self) -> None:
        _positive(self)
        if not self.spool_folder:
            raise OptionError(name="spool_folder", value="", allowed="the path of a folder")


# A chunk is one frame; this is the most one side will ask for or accept at once.
CHUNK_BYTES_MAX = 8 * MIB
# A little over the largest chunk; libzmq closes a connection that claims a larger frame.
FRAME_BYTES_MAX = 16 * MIB


@dataclass(frozen=True, slots=True)
class Options:
    """All options of one cell.

    Attributes:
        links: making and watching links.
        calls: requests and handlers.
        packing: what travels inline, beside or by reference.
        pulls: pulling.
        offers: lending.
        streams: pushing.
        disk: what is fetched to a disk.
        close_s: how long ``close()`` waits for what is running.
    """

    links: LinkOptions = field(default_factory=LinkOptions)
    calls: CallOptions = field(default_factory=CallOptions)
    packing: PackOptions = field(default_factory=PackOptions)
    pulls: PullOptions = field(default_factory=PullOptions)
    offers: OfferOptions = field(default_factory=OfferOptions)
    streams: StreamOptions = field(default_factory=StreamOptions)
    disk: DiskOptions = field(default_factory=DiskOptions)
    close_s: float = 2.0

    def __post_init__(self) -> None:
        _positive(self)
        if self.packing.frame_bytes_max > FRAME_BYTES_MAX:
            raise OptionError(name="frame_bytes_max", value=str(self.packing.frame_bytes_max), allowed=f"at most {FRAME_BYTES_MAX}")
