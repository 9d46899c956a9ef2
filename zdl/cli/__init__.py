"""The command ``zdl``: programs that parse, start, wait and report.

It owns everything between a terminal and the public names: flags (made from ``zdl.options``), output for people,
pipes and machines, exit codes, signals. One file per family of commands; what a command needs is imported when it
runs, so that ``zdl --help`` is quick. Nothing outside this folder imports click or rich, or ends the process.

It may import everything below it but ``zdl.protocol`` and zmq.
"""
