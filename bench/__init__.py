"""How fast is zdl, and how fast could it be?

How a figure is made. Every system (zdl in some setting, raw sockets, bare pyzmq, memcpy) is one or two
processes of its own that live through the whole run. In each **round** every system is run once; the next
round begins with the next system, so that nobody always goes first. Warm-up rounds are dropped. Machines
are shared and drift, so a ratio is taken *within* a round and the median of the ratios is what counts;
the absolute figures are printed with their least and greatest value. No figure is printed without its
ceiling, and no figure counts unless the bytes that arrived have the checksum of the bytes that were lent.

The questions, one file each, are listed in ``registry``. To add one: a file with a ``BENCH``, as ``question`` tells, and a
line in the registry; ``zdl bench`` and its ``--help`` follow from both.

The method: ``rounds`` (alternate, drop, ratio), ``report`` (what is printed), ``processes`` and ``peer`` (the two
ends of the pipe between the measuring process and a measured one), ``meter`` (CPU and memory of a process),
``systems`` (what can be run in a round), ``sizes`` (bytes as people write them).

The work: ``state`` (the arrays that are moved), ``layout`` (many arrays as one stream of bytes), ``destination`` (the
memory they land in), ``exchange`` (requests one by one, and many in flight), ``endpoints`` (where origins listen).

The baselines: ``raw_tcp``, ``bare_zmq``, ``memcpy`` for ``pull``; ``raw_rtt``, ``bare_rtt`` for ``rtt``; beside them
``zdl_pull`` and ``zdl_rtt``. Each holds what runs inside the measured processes: an ``Origin`` and a ``Leaf``.
"""
