"""The cell: the object that users hold.

It owns requests, replies and notices as users see them, the handlers and the bounded pool that runs them, what waits
for an answer, the filters that messages pass, and the door by which services are mounted on a cell.

It may import levels 0 to 2: the vocabulary, ``zdl.protocol``, ``zdl.objects``, ``zdl.observe`` and ``zdl.transport``;
not zmq. The public `zdl.Cell`, with its services mounted, is put together above, in ``zdl.assembly``.
"""
