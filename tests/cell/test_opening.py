"""How a cell is reached, and that none of its parts holds it."""

from __future__ import annotations

import gc
import weakref

import pytest

from zdl.assembly import Cell
from zdl.cell.opening import Doors
from zdl.errors import OptionError


def test_one_address_or_several() -> None:
    made = Doors.of("server", None, "tcp://127.0.0.1:0", ["ipc:///tmp/a", "ipc:///tmp/b"], is_insecure=False, advertise=None)
    assert made == Doors(None, ("tcp://127.0.0.1:0",), ("ipc:///tmp/a", "ipc:///tmp/b"), False, None)


def test_a_cell_that_could_neither_dial_nor_be_dialled_is_refused() -> None:
    with pytest.raises(OptionError, match="parent"):
        Doors.of("site-1", None, (), (), is_insecure=False, advertise=None)
    assert Doors.of("server", None, (), (), is_insecure=False, advertise=None).listen == ()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_part_holds_the_cell() -> None:
    cell = Cell("server", listen="tcp://127.0.0.1:0")
    cell.start()
    held = weakref.ref(cell)
    cell.close()
    del cell
    gc.collect()
    assert held() is None
