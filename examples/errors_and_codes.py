"""What can become of a request: a reply, a typed error with its facts, or, for who prefers that, always a return code.

Prints::

    RemoteError: ValueError in site-1, handler math/root: -4.0 has no root
    Refused: site-1 refused (invalid-request): a number is wanted, not text
    Refused: site-1 refused (no-handler): it has no handler for math/cube
    NoRoute: no route to site-2: server could not go on
    TimedOut: site-1, the reply to math/slow
    with codes: ok 3.0
    with codes: process_exception None
    with codes: invalid_request None
    with codes: target_unreachable None
"""

from __future__ import annotations

import math
import threading

from zdl import Cell, NoRoute, Refused, RemoteError, Request, TimedOut


def main() -> None:
    """Each of the errors carries its facts as attributes; the text is made of them."""
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        site.wait_ready()
        enough = threading.Event()
        site.handler("math", "slow")(lambda request: enough.wait(60))

        @site.handler("math", "root")
        def root(request: Request) -> object:
            if isinstance(request.body, str):
                raise request.refused("invalid-request", "a number is wanted, not text")
            if request.body < 0:
                raise ValueError(f"{request.body} has no root")
            return math.sqrt(request.body)

        for target, topic, body in (("site-1", "root", -4.0), ("site-1", "root", "nine"), ("site-1", "cube", 9.0),
                                    ("site-2", "root", 9.0)):
            try:
                server.request(target, "math", topic, body)
            except (RemoteError, Refused, NoRoute) as error:
                print(f"{type(error).__name__}: {error}")
        try:
            server.request("site-1", "math", "slow", timeout_s=0.1)
        except TimedOut as error:
            print(f"TimedOut: {error.address}, {error.what}")
        enough.set()

        for target, body in (("site-1", 9.0), ("site-1", -4.0), ("site-1", "nine"), ("site-2", 9.0)):
            found = server.replies.request(target, "math", "root", body)
            print("with codes:", found.code, found.body)


if __name__ == "__main__":
    main()
