"""Lending large objects and pulling them from their origin.

It owns the two halves of a download: the broker with its transactions, which lends objects and serves them with
threads of its own, and the puller with its sinks, which fetches what a `Ref` names, verifies it and puts it where it
belongs. The kinds everybody needs (arrays, files) and the contracts for other kinds are here too.

It is a service, mounted on a cell by the same door that users have. It may import level 0, ``zdl.protocol``,
``zdl.objects``, ``zdl.observe`` and ``zdl.cell``; not zmq, not ``zdl.transport``, not ``zdl.streaming``.
"""
