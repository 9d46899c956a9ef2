"""What was fetched to a disk, as users get it: `DiskDict`, a dict whose values are loaded when they are touched; `DiskFile`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

from zdl.download import tensors
from zdl.download.diskerrors import check_replaceable, disk_error
from zdl.download.names import PART, hidden, safe_name
from zdl.download.places import locked_file, named, sync_folder
from zdl.download.spool import SpoolFile
from zdl.objects import arrays
from zdl.refs import Ref

# What is copied in one call; the system copies inside the kernel, or shares the blocks where the file system can.
_COPY_BYTES = 1 << 30


class Stored:
    """One item in a spool file.

    Args:
        ref: what it is.
        file: where it is.
        place: where in the file it begins.
    """

    __slots__ = ("_ref", "_file", "_place", "_loaded")

    def __init__(self, ref: Ref, file: SpoolFile, place: int) -> None:
        self._ref = ref
        self._file = file
        self._place = place
        self._loaded: weakref.ref[Any] | None = None

    def load(self) -> object:
        """An array or a tensor over mapped memory, the same one as long as somebody has it; or bytes; or a `DiskFile`."""
        ref = self._ref
        if ref.kind == "file":
            return DiskFile(ref, self._file)
        if ref.kind != "array":
            return self._file.read(self._place, ref.length)
        loaded = None if self._loaded is None else self._loaded()
        if loaded is None:
            make = tensors.restore if ref.framework else arrays.restore
            if not ref.length:
                return make(ref.dtype, ref.shape, b"", copy=True)
            loaded = make(ref.dtype, ref.shape, self._file.map(self._place, ref.length), copy=False)
            self._loaded = weakref.ref(loaded)
        return loaded


class DiskDict(MutableMapping[Any, Any]):
    """A dict whose arrays and bytes are on the disk, and are loaded when they are touched.

    An array is memory-mapped: the system reads the pages that are used, and drops them again when memory is short. What
    is written into it stays, also when the array was let go of and is touched again. Bytes are read each time. Values that
    are set are kept in memory. It has all methods of a dict; ``dict(it)`` is a plain one with everything mapped.

    Threads: those of a dict.
    Lifetime: the room on the disk is free when the dict, its copies, and all arrays of it are gone, or the process is.
    """

    __slots__ = ("_values", "__weakref__")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = ()) -> None:
        self._values: dict[Any, Any] = dict(values)

    def __repr__(self) -> str:
        on_disk = sum(isinstance(value, Stored) for value in self._values.values())
        return f"<DiskDict of {len(self._values)} values, {on_disk} of them on the disk>"

    def __getitem__(self, key: Any) -> Any:
        value = self._values[key]
        return value.load() if isinstance(value, Stored) else value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._values[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._values.keys())

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values  # without loading the value

    def __or__(self, other: Mapping[Any, Any]) -> DiskDict:
        if not isinstance(other, Mapping):
            return NotImplemented
        return DiskDict({**self._values, **_unloaded(other)})

    def __ror__(self, other: Mapping[Any, Any]) -> DiskDict:
        if not isinstance(other, Mapping):
            return NotImplemented
        return DiskDict({**_unloaded(other), **self._values})

    def __ior__(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> DiskDict:
        self._values.update(_unloaded(other) if isinstance(other, Mapping) else other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and deepcopy: a plain dict; what is on the disk of this process goes nowhere else."""
        return dict, (dict(self),)

    def popitem(self) -> tuple[Any, Any]:
        """The last one, as a dict has it."""
        if not self._values:
            raise KeyError("popitem(): dictionary is empty")
        key = next(reversed(self))
        return key, self.pop(key)

    def copy(self) -> DiskDict:
        """Another dict of the same values; nothing is loaded."""
        return DiskDict(self._values)

    def __copy__(self) -> DiskDict:
        return self.copy()

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> DiskDict:
        """As `dict.fromkeys`."""
        return cls(dict.fromkeys(keys, value))


class DiskFile:
    """A file that was fetched to the disk, and has no name there.

    Lifetime: its room is free when this and what was opened of it are gone, or the process is.

    Attributes:
        name: what its lender calls it; it leads nowhere, but may be anything else.
        nbytes: its size.
    """

    __slots__ = ("name", "nbytes", "_ref", "_file")

    def __init__(self, ref: Ref, file: SpoolFile) -> None:
        self.name = ref.name
        self.nbytes = ref.length
        self._ref = ref
        self._file = file

    def __repr__(self) -> str:
        return f"<DiskFile {self.name!r}, {self.nbytes} bytes>"

    @property
    def path(self) -> Path:
        """A path by which this process, and no other one, can open it, as long as this object is alive."""
        return Path(f"/proc/self/fd/{self._file.fileno()}")

    def open(self) -> BinaryIO:
        """For reading, from its beginning; independent of all others that have it open."""
        return open(self.path, "rb")

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Copy it to a name that lasts; it appears there when all of it is, and the disk has kept it.

        Args:
            path: the name; or a folder, where it gets the name that its lender calls it, made harmless.
            overwrite: whether a file of that name may be replaced.

        Raises:
            OptionError: the name is taken, or cannot be written.
            DiskFull, DiskFailed: there is no room, or the disk is broken.
        """
        place = Path(path)
        if place.is_dir():
            place = place / safe_name(self.name)
        part = hidden(place, PART)
        descriptor = None
        try:
            check_replaceable(place, is_overwriting=overwrite)
            descriptor = locked_file(part)
            os.ftruncate(descriptor, 0)
            _copy(self._file.fileno(), descriptor, self.nbytes)
            os.fsync(descriptor)
            named(part, place, is_overwriting=overwrite)
            sync_folder(place.parent)
        except OSError as error:
            if descriptor is not None:
                part.unlink(missing_ok=True)
            raise disk_error(error, self._ref, place) from error
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return place


def _unloaded(values: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return values._values if isinstance(values, DiskDict) else values


def _copy(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        count = os.sendfile(target, source, at, min(_COPY_BYTES, size - at))
        if not count:
            break
        at += count
