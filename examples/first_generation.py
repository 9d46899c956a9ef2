"""Code that was written against the first-generation downloader: one producer for all objects of a transaction.

Two sites fetch an object; the origin hears of each once, and of the end when the transaction is deleted.

Prints::

    site-1 has [1, 2, 3]
    site-2 has [1, 2, 3]
    told: site-1 success [1, 2, 3]
    told: site-2 success [1, 2, 3]
    ended with [[1, 2, 3]]
"""

from __future__ import annotations

import threading
from typing import Any

from zdl import Cell, Consumer, ProduceRC
from zdl.download.v1 import ObjDownloader, Producer, download_object


class OneByOne(Producer):
    """The elements of a list."""

    def produce(self, ref_id: str, obj: Any, state: dict[str, Any], requester: str) -> tuple[str, Any, dict[str, Any]]:
        """The next one."""
        at = state.get("at", 0)
        if at == len(obj):
            return ProduceRC.EOF, None, {}
        return ProduceRC.OK, obj[at], {"at": at + 1}


class Collect(Consumer):
    """Puts them into a list again."""

    def __init__(self) -> None:
        self.elements: list[Any] = []

    def consume(self, ref_id: str, state: dict[str, Any], data: Any) -> dict[str, Any]:
        """One of them."""
        self.elements.append(data)
        return state

    def download_completed(self, ref_id: str) -> None:
        """They are all here."""

    def download_failed(self, ref_id: str, reason: str) -> None:
        """Some are missing."""
        self.elements = [reason]


told: list[str] = []
ended = threading.Event()
with Cell("server", listen="tcp://127.0.0.1:0") as server:
    downloader = ObjDownloader(server.downloads)
    tx_id = downloader.new_transaction(
        OneByOne(), 60.0, timeout_cb=lambda tx_id, objects: (told.append(f"ended with {objects}"), ended.set()))
    ref_id = downloader.add_download_object(
        tx_id, [1, 2, 3], obj_downloaded_cb=lambda ref_id, site, status, obj: told.append(f"told: {site} {status} {obj}"))
    for name in ("site-1", "site-2"):
        with Cell(name, parent=server.addresses[0]) as site:
            site.wait_ready()
            collect = Collect()
            download_object("server", ref_id, 10.0, site.downloads, collect)
            print(f"{name} has {collect.elements}")
    downloader.delete_transaction(tx_id, call_cb=True)
    ended.wait(10)
print("\n".join(told))
