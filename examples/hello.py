"""Two cells: one asks, the other answers.

Prints::

    site-1 asked for a greeting: hello site-1, this is server
    a sum of arrays: [11. 22. 33.]
"""

from __future__ import annotations

import numpy as np

from zdl import Cell, Request


def main() -> None:
    """The root listens on a free port of this machine; the other cell dials it."""
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:

        @server.handler("talk", "greet")
        def greet(request: Request) -> object:
            return f"hello {request.origin}, this is {request.target}"

        @server.handler("math", "add")
        def add(request: Request) -> object:
            assert isinstance(request.body, dict)
            return request.body["a"] + request.body["b"]

        print("site-1 asked for a greeting:", site.request("server", "talk", "greet").body)
        body = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([10.0, 20.0, 30.0])}
        print("a sum of arrays:", site.request("server", "math", "add", body).body)


if __name__ == "__main__":
    main()
