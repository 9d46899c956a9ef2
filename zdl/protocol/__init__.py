"""The brain: the protocol of zdl as pure state machines, and, here, its specification.

Participants
    A **cell** has a name (FQCN) and an **incarnation**, 16 random bytes made when it starts. Cells
    form a tree: each but the root dials its **parent**. Any cell may listen; any may lend objects
    (an **origin**) or pull them (a **receiver**).

Goals
    A request reaches any cell of the tree over any number of hops and is answered or refused, never
    lost without a word while the tree stands. An object lent by one cell is pulled by another in
    pieces, each verified, straight from the origin where the origin can be dialled, else along the
    tree. Whoever passes a message on reads its first frame only.

Non-goals
    Order between messages; delivery after the sender has died; storage in the middle.

Two lanes
    Every cell has two sets of links: the **control** lane (requests, replies, notices) and the
    **data** lane (chunks and what belongs to them). They have sockets, threads and trees of links of
    their own, and speak the same language; a control message never waits behind a chunk.

Frames
    A message is one ZeroMQ multipart message::

        frame 0    header   msgpack array, at most 64 KiB
        frame 1…   body     opaque to all but the cell that the header names as target

    The first six positions of a header are the same for every kind and every version::

        [version, kind, hops, origin, target, id, …]

    ``version`` is `WIRE_VERSION`. ``kind`` is a `Kind`. ``hops`` counts the cells that have passed it
    on; being the fourth byte of the header, it is raised in place. ``origin`` and ``target`` are FQCNs
    (empty target: the cell at the other end of the link). ``id`` is chosen by the side that opened
    the conversation and belongs to it. A header has at most 15 positions. Positions after those that
    this version knows are ignored, so that later versions may add some; a different version is
    refused in the HELLO with both versions named.

Kinds on a link (never passed on)
    ==== ========== =====================================================================
    1    HELLO      incarnation, role (child or direct), heartbeat_s, data addresses
    2    WELCOME    incarnation, heartbeat_s, data addresses
    3    REJECT     reason, text: the link is not wanted; reasons are those of `errors.Refused`
    4    HEARTBEAT  (nothing): I am alive and had nothing else to say
    5    GOODBYE    why: this cell closes
    ==== ========== =====================================================================

    ::

        dialler                     listener
           │ HELLO ───────────────────▶ │  version, name free, below me?
           │ ◀───────────── WELCOME     │  (or REJECT, and the link is dropped)
           │ ◀── HEARTBEAT ──▶          │  when nothing else was said for a heartbeat
           │ GOODBYE ─────────────────▶ │

    Any frame is a sign of life. On the control lane a peer that is silent for ``suspect_beats`` of
    its own heartbeats is **suspect**, for ``dead_beats`` **down**; a broken connection is down at once.
    On the data lane silence means nothing (a chunk may take long on a slow line): a link ends with
    its connection. A link is one connection: a new connection says HELLO again.

    A link speaks for the subtree of the name in its HELLO: a message from a child or a direct peer
    whose ``origin`` lies outside is refused. From the parent, and from any other cell above that has linked
    us directly, any origin is taken as routing information: they pass on what comes down the tree.

Routing
    A cell sends a message on, in this order: to the target itself if linked; if it stands above the
    target, to the longest linked prefix of the target's name, and nowhere else; else to the longest
    linked prefix, else to the root, its parent or the nearest linked cell above. Never back over the
    link it came by, never more than ``hops_max`` times. Where that leads nowhere, a BOUNCE goes back to
    the message's origin. When a link is lost, every origin that recently sent over it is told by LOST
    which names can no longer be reached; so calls and pulls end when the way breaks, not when they
    time out.

Kinds that are routed
    ==== ========= ===========================================================================
    16   REQUEST   id of the call; channel, topic, timeout_s (time remaining, or nil), headers; body
    17   REPLY     id of the call; code ("" = ok), facts, headers; body
    18   NOTICE    channel, topic, headers; body; no reply
    19   CANCEL    id of the call: nobody waits any more
    20   BOUNCE    id of the message; its kind, code, facts: a cell on the way could not go on
    21   LOST      name, beyond, why: ``name`` and all below it (or, beyond: all that is not
                   below ``name``) cannot be reached from the cell that says so
    ==== ========= ===========================================================================

    ::

        caller                 relay                 callee
          │ REQUEST ─────────▶ │ REQUEST (hops 1) ──▶ │   the handler runs, at most once per (origin, id)
          │ ◀───────── REPLY   │ ◀──────────── REPLY  │
          │ CANCEL ──────────▶ │ ───────────────────▶ │   on timeout or abort; a late REPLY is dropped

Kinds of the data lane (routed too: linked directly, the route is one hop)
    ==== ========== ==========================================================================
    32   ASK        id of the pull; offer id, secret, offset, length, verify
    33   CHUNK      id of the pull; offset, length, verify, digest; body: the bytes, in any number of frames
    34   DENIAL     id of the pull; code, facts: the pull cannot go on
    35   CONFIRM    id of the pull; offer id, secret, ranges: verified and stored
    36   CONFIRMED  id of the pull: the origin has noted it
    37   KEEP       id of the pull; offer id, secret: still here, keep lending
    38   DROP       id of the pull; offer id, secret, why: I shall not want the rest
    39   WITHDRAWN  offer id, how: the origin ended the offer
    ==== ========== ==========================================================================

    ::

        receiver                          origin
          │ ASK 0, 1 MiB ──────────────────▶ │      as many as the window allows, without waiting
          │ ASK 1 MiB, 1 MiB ──────────────▶ │
          │ ◀─────────────── CHUNK 0, digest │      each verified before anyone sees it
          │ ASK 2 MiB, … ──────────────────▶ │
          │ ◀─────────── CHUNK 1 MiB, digest │
          │ CONFIRM ranges ────────────────▶ │      asked again until
          │ ◀────────────────────── CONFIRMED│

    An offer is one virtual byte stream (`zdl.objects.manifest`): a ref says which byte range is which
    item, so any range may be asked for, in any order, any number of times; asking twice is harmless.
    An offer belongs to a **transaction**, which ends when its receivers, counted by name, have
    confirmed; when its lease, renewed by each ASK, KEEP and CONFIRM, runs out; or when the origin ends it.

Limits
    Header 64 KiB; frame 16 MiB; frames per message 4,096; names 255 bytes; channel and topic 255
    bytes; hops 16; chunk 8 MiB. Numbers and texts from a peer are checked against these when
    decoded. What does not decode is counted and answered with nothing; the link lives on.
"""
