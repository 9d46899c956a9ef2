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

    A body of one part and at most 512 bytes stands in the header itself, in the position after those of its kind, and
    no frame follows.

    The first six positions of a header are the same for every kind and every version::

        [version, kind, hops, origin, target, id, …]

    ``version`` is `WIRE_VERSION`. ``kind`` is a `Kind`, with the flag 64 where the message is traced.
    ``hops`` counts the cells that have passed it on; being the fourth byte of the header, it is raised in
    place. ``origin`` and ``target`` are FQCNs (empty target: the cell at the other end of the link). ``id`` is
    chosen by the side that opened the conversation and belongs to it. A header has at most 15 positions. Positions after those that
    this version knows are ignored, so that later versions may add some; a different version is
    refused in the HELLO with both versions named.

Kinds on a link (never passed on)
    ==== ========== =====================================================================
    1    HELLO      incarnation, role (child or direct), heartbeat_s, data addresses; place, token
    2    WELCOME    incarnation, heartbeat_s, data addresses
    3    REJECT     reason, text: the link is not wanted; reasons are those of `errors.Refused`
    4    HEARTBEAT  asks: I am alive and had nothing else to say; or: say that you are
    5    GOODBYE    why: this cell closes
    6    LEAVE      is_done: I say nothing more over this direct link; or: nor do you, so it ends
    8    BELOW      serial, down: (name, why)…, up: names. To the parent: who is below; from it: noted
    9    BUNDLE     id: how many; each further frame is the header of a message that has no other frame
    ==== ========== =====================================================================

    ::

        dialler                     listener
           │ HELLO ───────────────────▶ │  version, name free, below me?
           │ ◀───────────── WELCOME     │  (or REJECT, and the link is dropped)
           │ ◀── HEARTBEAT ──▶          │  when nothing else was said for a heartbeat
           │ GOODBYE ─────────────────▶ │

    Any frame is a sign of life. On the control lane a peer that is silent for ``suspect_beats`` of
    its own heartbeats has **stalled**, for ``dead_beats`` it is **down**; a broken connection is down at once.
    On the data lane silence means nothing (a chunk may take long on a slow line): a link ends with
    its connection. A link is one connection: a new connection says HELLO again. HELLO's ``place`` and ``token`` and
    HEARTBEAT's ``asks`` are left out where they say nothing.

    Messages without frames of their own that go over a link at once may go as one BUNDLE, 2 to 64 of them of at most 1 KiB
    each: a header whose id is their number, and whose seventh position is the list of their headers. Who receives it takes it
    apart, and takes each message as if it had come alone. Messages on a link (kinds below 16) and bundles do not go in bundles.

    A name has one link. On the control lane a HELLO of another incarnation challenges a link that is up: its peer is asked
    for a HEARTBEAT, and what comes from it within ``challenge_s`` has the newcomer rejected (name-taken, both sides named);
    silence has it take the place. So a restarted cell is there again at once, whatever became of its former self.

    Over the control link a child tells its parent who is below it: BELOW 0 after the WELCOME with all that are there,
    in pieces, then who came up or went down, collected for ``subtree_batch_s``. One BELOW is on its way at a time: the
    parent notes it by a BELOW with the same serial and no names, and until then it is said again once a heartbeat.
    ``down`` is read before ``up``: a cell in both has started anew. Serials count from 0 on each link; names outside
    the child's subtree are passed over. With the link to a child all go down that it alone led to. A cell with
    nobody below it says nothing.

    A link speaks for the subtree of the name in its HELLO: a message from a child whose ``origin`` lies outside is
    refused. From the parent any origin is taken: it passes on what comes down the tree.

Direct links
    A link of role direct is for its two cells alone: it speaks for the name in its HELLO and nothing below, leads
    to no other cell, and passes nothing on. A reply goes the way its request came.

    On the **control lane** it is introduced over the tree (`zdl.protocol.introductions`): INTRODUCE asks, INTRODUCED gives
    addresses and a token, which is good for one HELLO of that one name and a short time. Any other direct HELLO is rejected
    (not-introduced). It is ended without loss by LEAVE (`zdl.protocol.leaving`); who still waits for replies to
    requests that went over it says WAITING along the tree, so that those who lead there know of it.

    On the **data lane** the secret in an ASK gives the right to pull, and nobody has introduced who dials: it is a
    **guest**. Nothing goes to it by its name, which it may have made up: only the answers to what it asked over this very
    link (`zdl.protocol.returns`). Who dials asks over its own link, and never over one that it was dialled by.

Routing
    A cell sends a message on, in this order: to the target itself if linked; if it stands above the
    target, to the longest linked prefix of the target's name, and nowhere else; else to the longest
    linked prefix, else to the root, its parent or the nearest linked cell above. Never back over the
    link it came by, never more than ``hops_max`` times. Where that leads nowhere, a BOUNCE goes back to
    the message's origin. When a link is lost, every origin that recently sent over it is told by LOST
    which names can no longer be reached; so calls and pulls end when the way breaks, not when they
    time out. Its id is the last request of that origin that went over the link (1: none did; 0: not known): later
    requests are not concerned, nor are those that went directly. A LOST is believed of a cell above the name, or,
    beyond, above us; a BOUNCE of a cell that can be on the way: the target, us, and those above either.

Tracing
    A REQUEST or REPLY whose kind has the flag 64 is **traced**: the last position of its header, behind all others, is
    a list of names, to which each cell that passes it on appends its own (`zdl.protocol.trace`); for that a relay
    writes the header anew, and nothing else in it changes. A REPLY to a traced REQUEST is traced; its list begins with
    that of the REQUEST and the name of the target. The body of a traced message goes in frames, however small. A list is
    no reason to refuse a message: where it is full (128 names) or is none, the message goes on as it came. Nothing is
    decided by these names. Kinds from 64 on are taken by the flag.

Kinds that are routed
    ==== ========== ===========================================================================
    16   REQUEST    id of the call; channel, topic, timeout_s (time remaining, or nil), headers; body
    17   REPLY      id of the call; code ("" = ok), facts, headers; body
    18   NOTICE     channel, topic, headers; body; no reply
    19   CANCEL     id of the call: nobody waits any more
    20   BOUNCE     id of the message; its kind, code, facts: a cell on the way could not go on
    21   LOST       name, beyond, why: ``name`` and all below it (or, beyond: all that is not
                    below ``name``) cannot be reached from the cell that says so
    22   INTRODUCE  host, token, addresses: may I dial you directly, or will you dial me?
    23   INTRODUCED id of INTRODUCE; token, addresses: dial these; or neither: I dial you; or why not
    24   WAITING    id: I wait for your replies to requests up to this one; told to those on the way
    28   PROGRESS   id of the call; facts: the callee still works on it, and the caller's timeout begins anew
    ==== ========== ===========================================================================

    ::

        caller                 relay                 callee
          │ REQUEST ─────────▶ │ REQUEST (hops 1) ──▶ │   the handler runs, at most once per (origin, id)
          │ ◀───────── REPLY   │ ◀──────────── REPLY  │
          │ CANCEL ──────────▶ │ ───────────────────▶ │   on timeout or abort; a late REPLY is dropped

Kinds of the data lane (routed too: linked directly, the route is one hop)
    ==== ========== ==========================================================================
    32   ASK        id of the pull; offer id, secret, offset, length, verify, priority (0 first, 1 if it is missing, 2 last)
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

    ``verify`` is the digest that the receiver wants: 0 none, 1 BLAKE3 (32 bytes), 2 XXH3 of 128 bits, big endian, its seed the
    first 8 bytes of the secret, little endian. The quick one finds what went wrong by accident; whoever knows the ref can make it.

    An offer is one virtual byte stream (`zdl.objects.manifest`): a ref says which byte range is which
    item, so any range may be asked for, in any order, any number of times; asking twice is harmless.
    An offer belongs to a **transaction**, which ends when its receivers, counted by name, have
    confirmed; when its lease, renewed by each ASK, KEEP and CONFIRM, runs out; or when the origin ends it.

Kinds of streams (on the data lane too, and routed)
    ==== ========== ==========================================================================
    48   OPEN       id of the push; channel, topic, form (bytes, blob or objects), bytes in all or 0, headers;
                    body: the stream's context
    49   ITEMS      id of the push; number of the first; replies up to here have come; body: items, or none
    50   TAKEN      id of the push; received, consumed, credit; replies from here; again; body: replies
    51   END        id of the push; how many items there are
    52   ENDED      id of the push; consumed, code ("" = ok), facts; body: the result
    53   HALT       id of the push; code, facts: the sender breaks off
    ==== ========== ==========================================================================

    ::

        sender                            receiver
          │ OPEN, ITEMS 0… ────────────────▶ │      up to 256 KiB before anything is said
          │ ◀──── TAKEN 5, 0, credit 8 MiB   │      5 are here
          │ ITEMS 5… ──────────────────────▶ │      each handed on once, in order
          │ ◀──── TAKEN 9, 7, replies 0…6    │      7 are consumed, and there is credit for more
          │ ITEMS 9, none ─────────────────▶ │      nothing to say for a while: how far are you?
          │ ◀──── TAKEN 9, 9, replies 7, 8   │
          │ END 9 ─────────────────────────▶ │      said again, as the question is, until
          │ ◀─────────────── ENDED, result   │

    Items are numbered from 0. Credit is a number of bytes from the beginning, each item counting its own and 64; the first
    item after all others are consumed needs none. A receiver that misses an item says ``again``, and gets everything from
    ``received`` on. ENDED may come at any time: the receiver wants no more, or failed. It is kept for a while, and said again
    to whoever goes on. What is said about a stream that the receiver does not know is answered ENDED (refused, not-open).
    Items in a body are gathered as `zdl.protocol.items` says.

Limits
    Header 64 KiB; frame 16 MiB; frames per message 4,096; names 255 bytes; channel and topic 255
    bytes; hops 16; chunk 8 MiB. Numbers and texts from a peer are checked against these when
    decoded. What does not decode is counted and answered with nothing; the link lives on.
"""
