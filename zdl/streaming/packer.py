"""Packer: objects of streams to the parts of items and back; what is too large for an item is lent, as anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zdl.cell.service import Lender, Scope
from zdl.cell.workflow import Workflow
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, pack, pack_plain, refers
from zdl.objects.typetable import TypeTable
from zdl.objects.unpack import unpack
from zdl.options import Options
from zdl.protocol.items import PARTS_MAX
from zdl.protocol.messages import Body
from zdl.refs import Holder, Source


class Packer:
    """What packs and unpacks for the streams of one cell.

    Threads: all methods from any thread.

    Args:
        options: of the cell.
        lender: lends what is too large; None: nothing is lent.
        types: what may travel, as in any message of the cell.
    """

    def __init__(self, options: Options, lender: Lender | None, types: TypeTable = TypeTable()) -> None:
        self._options = replace(options.packing, frames_max=min(options.packing.frames_max, PARTS_MAX))
        self._lease_min_s = options.offers.lease_min_s
        self._lender = lender
        self._types = types
        self._holder: Holder | None = None

    def pack(self, obj: object, targets: Sequence[str], workflow: Workflow | None = None) -> tuple[Body, Scope | None]:
        """The parts of an item, and what it lends to these cells; to be had for as long as its workflow has left.

        Raises:
            CannotPack, TooLarge: it cannot travel; nothing was lent.
        """
        plain = pack_plain(obj, options=self._options)
        if plain is not None:
            return plain, None
        lender = self._lender
        if lender is None or not self._options.lends:
            return tuple(pack(obj, options=self._options, types=self._types).parts), None
        scopes: list[Scope] = []

        def lend(manifest: Manifest, lent: Sequence[Lent]) -> Source:
            """All is packed: open the transaction."""
            assert lender is not None
            lease_s = None if workflow is None else max(workflow.left_s(), self._lease_min_s)
            scopes.append(lender.scope(list(targets), targets=targets, lease_s=lease_s, packing=self._options))
            return scopes[0].lend(manifest, lent)

        packed = pack(obj, options=self._options, types=self._types, lend=lend)
        transaction = scopes[0].transaction if scopes else None
        if workflow is not None and transaction is not None:
            workflow.lends(transaction)
        return tuple(packed.parts), scopes[0] if scopes else None

    def unpack(self, parts: Body) -> object:
        """The object of an item; refs in it stay refs, bound to this cell.

        Raises:
            CannotUnpack: it is none.
        """
        if self._holder is None and self._lender is not None:
            self._holder = self._lender.holder()
        return unpack(parts, options=self._options, types=self._types, holder=self._holder)

    def take(self, parts: Body) -> object:
        """The object of an item with what it refers to in place of its refs; to look for them in one that has none costs 3 us.

        Raises:
            CannotUnpack: it is none.
            DownloadError: what it refers to is not to be had.
        """
        obj = self.unpack(parts)
        return self.resolve(obj) if refers(parts) else obj

    def resolve(self, obj: object) -> object:
        """The object with what it refers to in place of its refs."""
        return obj if self._lender is None else self._lender.resolve(obj)
