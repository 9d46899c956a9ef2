"""Messages and very large objects between processes that are arranged as a tree of cells.

The public names, in the order in which a newcomer meets them:

* `Cell` is a participant: it has a name, a parent, handlers, and asks others.
* `Ref` stands for a large object that stayed with its owner; `LazyDownloadRef` is the ancestor's name for it. A `Batch` is
  a dict with refs in it; `contains_refs` says whether there are any in an object.
* `TypeTable` says which classes of yours may travel; `Unbuilt` is a value of one whose refs are not resolved.
* `dumps`, `loads`, `dump` and `load` turn any such object into bytes or a file, without a cell.
* `Options` and its parts hold every default and every limit.
* `Signal` aborts what waits; `Request` is what a handler gets, `Reply` what a request brings.
* `Downloadable` and `CacheableObject` are what you write to lend something of your own, `Consumer` and `ItemConsumer` to take
  it in.
* Every error is a `ZdlError`, and carries its facts as attributes.

Values and errors are imported at once. The cell and what belongs to it are imported when they are first asked
for, because they bring numpy and ZeroMQ and the command line must start without them. The price: a type checker
sees those names as ``Any``. Typed code imports the same classes from where they live, ``zdl.assembly``,
``zdl.cell.signal`` and ``zdl.cell.messages``. A block that only the checker runs would hide that price; the rules
of the house forbid it.
"""

from importlib import import_module
from types import MappingProxyType
from typing import Any

from zdl.errors import (
    BadSelection,
    Busy,
    Cancelled,
    CannotPack,
    CannotUnpack,
    Closed,
    ConsumerFailed,
    DecodeError,
    DeliveryError,
    DiskFailed,
    DiskFull,
    DownloadError,
    ForkedCell,
    FqcnError,
    IntegrityError,
    LeaseEnded,
    LocalProtocolError,
    NoRoute,
    ObjectError,
    OptionError,
    OriginFailed,
    OriginLost,
    PeerLost,
    ProtocolError,
    Refused,
    RemoteError,
    RemoteProtocolError,
    SourceChanged,
    Stalled,
    StreamError,
    TimedOut,
    TooLarge,
    UnknownRef,
    ZdlError,
)
from zdl.options import CallOptions, DiskOptions, LinkOptions, OfferOptions, Options, Pace, PackOptions, PullOptions, StreamOptions
from zdl.refs import LazyDownloadRef, Ref

__version__ = "0.1.0"

__all__ = [
    "Cell",
    "Ref", "LazyDownloadRef", "Batch", "contains_refs",
    "TypeTable", "Unbuilt",
    "dumps", "loads", "dump", "load",
    "Options", "LinkOptions", "CallOptions", "PackOptions", "PullOptions", "OfferOptions", "DiskOptions", "StreamOptions",
    "Pace",
    "Signal", "Request", "Reply", "Answer", "Later", "Route",
    "Lending", "Lent", "Workflow",
    "ReturnCode", "Passing", "Verdict", "Passed",
    "PeerEvent", "SubtreeEvent",
    "Downloadable", "CacheableObject", "ProduceRC", "DownloadStatus", "TransactionDoneStatus",
    "Consumer", "ItemConsumer", "TransferProgress",
    "DiskDict", "DiskFile",
    "ObjectProducer", "ObjectConsumer", "ConsumerFactory", "StreamContextKey", "StreamReader", "Blob",
    "FileFactory", "stream_file", "ContainerFactory", "ContainerProducer", "Retriever",
    "ZdlError",
    "FqcnError", "OptionError",
    "ProtocolError", "LocalProtocolError", "RemoteProtocolError", "DecodeError",
    "ObjectError", "CannotPack", "CannotUnpack", "BadSelection",
    "DeliveryError", "NoRoute", "PeerLost", "Busy", "TooLarge", "Refused",
    "TimedOut",
    "RemoteError",
    "DownloadError", "UnknownRef", "LeaseEnded", "OriginLost", "OriginFailed",
    "SourceChanged", "IntegrityError", "Stalled", "DiskFull", "DiskFailed", "ConsumerFailed",
    "StreamError",
    "Cancelled",
    "Closed", "ForkedCell",
    "__version__",
]

# Where the names live that are imported on first use.
_LAZY = MappingProxyType({
    "Cell": "zdl.assembly",
    "Batch": "zdl.objects.batch",
    "contains_refs": "zdl.objects.externalize",
    "TypeTable": "zdl.objects.typetable",
    "Unbuilt": "zdl.objects.values",
    "dumps": "zdl.download.dumping",
    "loads": "zdl.download.dumping",
    "dump": "zdl.download.dumping",
    "load": "zdl.download.dumping",
    "Signal": "zdl.cell.signal",
    "Request": "zdl.cell.messages",
    "Reply": "zdl.cell.messages",
    "Answer": "zdl.cell.messages",
    "Later": "zdl.cell.later",
    "Route": "zdl.cell.messages",
    "Lending": "zdl.cell.lending",
    "Lent": "zdl.cell.lending",
    "Workflow": "zdl.cell.workflow",
    "ReturnCode": "zdl.cell.codes",
    "Passing": "zdl.cell.filters",
    "Verdict": "zdl.cell.filters",
    "Passed": "zdl.cell.passing_by",
    "PeerEvent": "zdl.cell.watching",
    "SubtreeEvent": "zdl.cell.watching",
    "Downloadable": "zdl.download.downloadable",
    "CacheableObject": "zdl.download.cacheable",
    "ProduceRC": "zdl.download.downloadable",
    "DownloadStatus": "zdl.download.downloadable",
    "TransactionDoneStatus": "zdl.download.downloadable",
    "Consumer": "zdl.download.consumer",
    "ItemConsumer": "zdl.download.consumer",
    "TransferProgress": "zdl.observe.progress",
    "DiskDict": "zdl.download.diskdict",
    "DiskFile": "zdl.download.diskdict",
    "ObjectProducer": "zdl.streaming.api",
    "ObjectConsumer": "zdl.streaming.api",
    "ConsumerFactory": "zdl.streaming.api",
    "StreamContextKey": "zdl.streaming.api",
    "StreamReader": "zdl.streaming.reader",
    "Blob": "zdl.streaming.reader",
    "FileFactory": "zdl.streaming.files",
    "stream_file": "zdl.streaming.files",
    "ContainerFactory": "zdl.streaming.containers",
    "ContainerProducer": "zdl.streaming.containers",
    "Retriever": "zdl.streaming.retriever",
})


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'zdl' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
