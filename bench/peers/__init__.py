"""What else moves arrays from one Python process to another: the same work, by other projects' own public interfaces.

One file each, with the same two roles as the baselines: an ``Origin`` that has the arrays, and a ``Leaf`` that gets them as named
arrays in memory that is new. Each comes as its tutorial shows it, and in the best setting that could be found; what was set is
in the recipes of `zdl_bench.against`. Their packages are imported when a role starts, and only there.
"""
