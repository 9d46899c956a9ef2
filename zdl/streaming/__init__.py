"""Streams: objects whose sender pushes them, piece by piece, under the receiver's credit.

What will live here: the contracts `ObjectProducer`, `ObjectConsumer` and `ConsumerFactory` (``api``), and the two
sides that run them (``sender``, ``receiver``).

It is a service, mounted on a cell by the same door that users have. It may import level 0, ``zdl.protocol``,
``zdl.objects``, ``zdl.observe`` and ``zdl.cell``; not zmq, not ``zdl.transport``, not ``zdl.download``.
"""
