"""Sockets and the threads that own them: the only folder that imports zmq.

It owns the shells around the brain: the control loop and the data lanes (one thread per socket: poll, decode, feed
``zdl.protocol``, act, sleep until the next deadline), the bounded mailbox by which every other thread hands work to
them, and the settings of every socket. Keys and same-host memory come to live here too.

It may import level 0, ``zdl.protocol``, ``zdl.observe`` and zmq. It never sees ``zdl.objects``: a body is frames.
"""
