"""What can be seen of a running cell: counters, progress, snapshots, and how logs are written.

What will live here: the counters that shells raise (``counters``), the progress of a transfer (``progress``), one
frozen picture of a cell for reports and metrics (``snapshot``), and the form of log lines (``logs``).

It may import level 0 and nothing else of zdl: whoever does the work reports to it, never the other way round.
"""
