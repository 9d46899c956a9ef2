"""Many cells as one plan: the topology file, and the processes that it describes.

What will live here: the schema of the file with all its errors at once (``schema``), the plan that a valid file
resolves to (``plan``), starting and watching the processes of a plan (``supervise``), and the same plan for other
supervisors (``export``).

It may import level 0, ``zdl.cell``, ``zdl.download``, ``zdl.streaming``, ``zdl.observe`` and ``zdl.assembly``; not zmq,
not ``zdl.protocol``.
"""
