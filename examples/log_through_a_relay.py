"""A log file that grows is followed through a relay while it is written, and metrics beside it; a blob at the end.

Prints::

    server: site-1.worker started
    server: site-1.worker step 1 done
    server: site-1.worker step 2 done
    metrics of site-1.worker: [{'step': 1, 'loss': 0.5}, {'step': 2, 'loss': 0.25}]
    the log had 74 bytes, the blob 1000000
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from zdl import Cell, Options, StreamOptions
from zdl.streaming.logs import follow
from zdl.streaming.reader import Blob, StreamReader

ANY_PORT = "tcp://127.0.0.1:0"
# A worker may dial the server directly where it can; here all goes by the site.
BY_THE_TREE = Options(streams=StreamOptions(direct=False))


def main() -> None:
    """A worker below a site: its streams go to the server, which can read them as they come."""
    with (Cell("server", listen=ANY_PORT) as server,
          Cell("site-1", parent=server.addresses[0], listen=ANY_PORT) as site,
          Cell("site-1.worker", parent=site.addresses[0], options=BY_THE_TREE) as worker,
          tempfile.TemporaryDirectory() as folder):
        worker.wait_ready()

        @server.streams.on_stream("log", "worker")
        def tail(stream: StreamReader) -> int:
            text = ""
            while piece := stream.read(4096):  # whatever is there, as soon as there is something
                text += piece.decode()
                while "\n" in text:
                    line, _, text = text.partition("\n")
                    print(f"server: {line}")
            return stream.bytes_read

        @server.streams.on_blob("model", "weights", bytes_max=10_000_000)
        def weights(blob: Blob) -> int:
            return len(blob.data)

        metrics = server.streams.subscribe("metrics", "worker")
        path, stop = Path(folder) / "worker.log", threading.Event()
        with worker.streams.open("log", "worker", "server") as log:
            following = threading.Thread(target=follow, args=(path, log, stop), kwargs={"poll_s": 0.01})
            following.start()
            rows = worker.streams.objects("metrics", "worker", "server")
            with path.open("w", buffering=1) as file:
                file.write("site-1.worker started\n")
                for step in (1, 2):
                    rows.put({"step": step, "loss": 0.5 ** step})
                    file.write(f"site-1.worker step {step} done\n")
            stop.set()  # what is there by now is streamed yet
            following.join()
        found = [next(metrics), next(metrics)]
        print(f"metrics of {metrics.origin}: {found}")
        blob = worker.streams.blob("model", "weights", "server", b"w" * 1_000_000)
        print(f"the log had {log.result()} bytes, the blob {blob.result(timeout_s=30)}")
        metrics.close()
        rows.close()


if __name__ == "__main__":
    main()
