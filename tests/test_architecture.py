"""The law of the house: every rule of ``rules.py`` over every file of ``zdl/``, and the rules tested themselves."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

import zdl
from zdl import errors

from rules import MANY_METHODS, MAY_IMPORT, PUBLIC_METHODS_MAX, RULES, Source, public_methods_count

ROOT = Path(__file__).resolve().parents[1]
PATHS = tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "zdl").rglob("*.py")))
RULE_NAMES = tuple(rule.__name__ for rule in RULES)
# `import zdl` must stay quick, and the command line starts without these.
HEAVY = ("asyncio", "blake3", "click", "msgpack", "numpy", "psutil", "rich", "zmq")


def load(path: str) -> Source:
    """The source at a path relative to the checkout."""
    return Source.parse(path, (ROOT / path).read_text(encoding="utf-8"))


def findings(rule_name: str, source: Source) -> list[str]:
    """What the rule of that name finds in a source."""
    return RULES[RULE_NAMES.index(rule_name)](source)


# --- the house ----------------------------------------------------------------------------------

@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_every_file_keeps_every_rule(rule: str, path: str) -> None:
    found = findings(rule, load(path))
    assert not found, "\n" + "\n".join(found)


def _needs_partner(path: str) -> bool:
    return not path.endswith(("/__init__.py", "/__main__.py")) and not path.startswith("zdl/cli/")


def _partner_fault(path: str, root: Path) -> str:
    """Why a file of zdl/ has no partner in tests/ that tests it; empty when it has one."""
    place = Path(path).relative_to("zdl")
    partner = root / "tests" / place.with_name(f"test_{place.name}")
    shown = partner.relative_to(root).as_posix()
    if not partner.is_file():
        return f"{path}:1: has no test file; write {shown}"
    source = Source.parse(shown, partner.read_text(encoding="utf-8"))
    if not any(getattr(node, "name", "").startswith(("test_", "Test"))
               for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return f"{shown}:1: has no test; test {path} in it"
    module = "zdl." + ".".join(place.with_suffix("").parts)
    names = {f"{node.module}.{alias.name}" for node in source.nodes(ast.ImportFrom) if isinstance(node, ast.ImportFrom)
             for alias in node.names} | {name for _, name in source.imported()}
    public = {f"zdl.{name}" for name in zdl.__all__ if zdl._LAZY.get(name) == module}
    if not any(name == module or name.startswith(f"{module}.") or name in public for name in names):
        return f"{shown}:1: does not import {module}; test that file, or move these tests to where they belong"
    return ""


@pytest.mark.parametrize("path", [path for path in PATHS if _needs_partner(path)])
def test_every_file_has_its_test_file(path: str) -> None:
    fault = _partner_fault(path, ROOT)
    assert not fault, fault


def test_import_zdl_is_light() -> None:
    code = f"import sys, zdl; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


@pytest.mark.parametrize("name", zdl.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(zdl, name) is not None
    assert name in dir(zdl)


def test_public_names_are_all_errors_and_nothing_twice() -> None:
    names = ["ZdlError", *(cls.__name__ for cls in errors.WIRE_CLASSES)]
    assert [name for name in names if name not in zdl.__all__] == []
    assert len(set(zdl.__all__)) == len(zdl.__all__)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sell'"):
        getattr(zdl, "Sell")


def test_setup_installs_every_folder() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    on_disk = {Path(path).parent.as_posix().replace("/", ".") for path in PATHS}
    assert {name for name in setup["options"]["packages"].split() if not name.startswith("zdl_bench")} == on_disk


def test_exceptions_are_still_needed() -> None:
    for path, name, most, reason in MANY_METHODS:
        assert reason, f"{path}: {name} has no reason in MANY_METHODS"
        counts = [public_methods_count(node) for node in load(path).nodes(ast.ClassDef)
                  if isinstance(node, ast.ClassDef) and node.name == name]
        assert counts and max(counts) > PUBLIC_METHODS_MAX, f"{path}: {name} needs no exception in MANY_METHODS"
        assert most == max(counts), f"{path}: {name} has {max(counts)} public methods, MANY_METHODS allows {most}"


# --- the rules themselves -----------------------------------------------------------------------

DOC = '"""D."""\n'


def _long(lines: int, *, indent: str = "    ") -> str:
    return "".join(f"{indent}x = {number}\n" for number in range(lines))


def _methods(count: int, *, decorator: str = "") -> str:
    return "".join(f"{decorator}    def method_{number}(self): return 1\n" for number in range(count))


# rule, path, source, the line where it must be found. DOC is line 1.
BAD = (
    ("imports_go_one_way", "zdl/errors.py", "from zdl.fqcn import parse", 1),
    ("imports_go_one_way", "zdl/fqcn.py", "import zdl.refs", 1),
    ("imports_go_one_way", "zdl/options.py", "from zdl import refs", 1),
    ("imports_go_one_way", "zdl/protocol/calls.py", "from zdl.objects.pack import pack", 1),
    ("imports_go_one_way", "zdl/objects/pack.py", "from zdl.protocol import frames", 1),
    ("imports_go_one_way", "zdl/observe/counters.py", "from zdl.protocol.messages import Hello", 1),
    ("imports_go_one_way", "zdl/transport/loop.py", "\nfrom zdl.objects.pack import pack", 2),
    ("imports_go_one_way", "zdl/cell/cell.py", "from zdl.download.broker import Broker", 1),
    ("imports_go_one_way", "zdl/cell/cell.py", "from zdl.assembly import Cell", 1),
    ("imports_go_one_way", "zdl/cell/cell.py", "from zdl import Cell", 1),
    ("imports_go_one_way", "zdl/download/puller.py", "from zdl.transport.lane import Lane", 1),
    ("imports_go_one_way", "zdl/download/puller.py", "from zdl.streaming.api import ObjectProducer", 1),
    ("imports_go_one_way", "zdl/streaming/sender.py", "from zdl.assembly import Cell", 1),
    ("imports_go_one_way", "zdl/assembly.py", "from zdl.transport.loop import Loop", 1),
    ("imports_go_one_way", "zdl/topology/plan.py", "from zdl.protocol.frames import HEADER", 1),
    ("imports_go_one_way", "zdl/testing.py", "def f():\n    import zdl.transport.loop", 2),
    ("imports_go_one_way", "zdl/cli/bench.py", "def f():\n    from zdl.protocol import frames", 2),
    ("imports_go_one_way", "zdl/__main__.py", "from zdl.assembly import Cell", 1),
    ("imports_go_one_way", "zdl/novelty.py", "x = 1", 1),
    ("imports_go_one_way", "zdl/novelty/file.py", "x = 1", 1),
    ("third_party_has_its_room", "zdl/cell/cell.py", "import zmq", 1),
    ("third_party_has_its_room", "zdl/cli/start.py", "def f():\n    import zmq.asyncio", 2),
    ("third_party_has_its_room", "zdl/transport/loop.py", "import msgpack", 1),
    ("third_party_has_its_room", "zdl/protocol/pulls.py", "import numpy as np", 1),
    ("third_party_has_its_room", "zdl/topology/plan.py", "from rich.table import Table", 1),
    ("third_party_has_its_room", "zdl/download/broker.py", "import psutil", 1),
    ("third_party_has_its_room", "zdl/cell/cell.py", "import something_new", 1),
    ("pure_rooms_are_pure", "zdl/protocol/calls.py", "from threading import Lock", 1),
    ("pure_rooms_are_pure", "zdl/protocol/calls.py", "import time", 1),
    ("pure_rooms_are_pure", "zdl/protocol/calls.py", "def f():\n    print(1)", 2),
    ("pure_rooms_are_pure", "zdl/objects/pack.py", "import os.path", 1),
    ("pure_rooms_are_pure", "zdl/objects/pack.py", "def f(p):\n    return open(p)", 2),
    ("pure_rooms_are_pure", "zdl/objects/arrays.py", "def f():\n    return np.random.rand(2)", 2),
    ("pure_rooms_are_pure", "zdl/refs.py", "import uuid", 1),
    ("pure_rooms_are_pure", "zdl/objects/atoms.py", "from uuid import UUID, uuid4", 1),
    ("pure_rooms_are_pure", "zdl/objects/atoms.py", "import datetime", 1),
    ("pure_rooms_are_pure", "zdl/objects/atoms.py", "from pathlib import Path", 1),
    ("pure_rooms_are_pure", "zdl/objects/atoms.py", "from datetime import datetime\ndef f():\n    return datetime.now()", 3),
    ("pure_rooms_are_pure", "zdl/objects/atoms.py", "from datetime import date\ndef f():\n    return date.today()", 3),
    ("imports_stand_at_the_top", "zdl/cell/cell.py", "from . import waiting", 1),
    ("imports_stand_at_the_top", "zdl/cell/cell.py", "from zdl.errors import *", 1),
    ("imports_stand_at_the_top", "zdl/cell/cell.py", DOC + "x = 1\nimport re", 3),
    ("imports_stand_at_the_top", "zdl/cell/cell.py", "def f():\n    import json", 2),
    ("imports_stand_at_the_top", "zdl/cell/cell.py", "try:\n    import json\nexcept ImportError:\n    json = None", 2),
    ("imports_stand_at_the_top", "zdl/objects/arrays.py", "def f():\n    import torch", 2),
    ("imports_stand_at_the_top", "zdl/cell/cell.py", "def f(n):\n    return importlib.import_module(n)", 2),
    ("types_need_no_block", "zdl/cell/cell.py", "from typing import TYPE_CHECKING", 1),
    ("types_need_no_block", "zdl/cell/cell.py", "import typing\nif typing.TYPE_CHECKING:\n    x = 1", 2),
    ("sizes_are_kept", "zdl/cell/cell.py", _long(501, indent=""), 501),
    ("sizes_are_kept", "zdl/cell/cell.py", "\ndef f():\n" + _long(70), 2),
    ("sizes_are_kept", "zdl/cell/cell.py", "class C:\n" + _long(300), 1),
    ("sizes_are_kept", "zdl/cell/cell.py", "class C:\n" + _methods(13), 1),
    ("sizes_are_kept", "zdl/cell/cell.py", "class C:\n    def f(self, a, b, c, d, e, g): return 1", 2),
    ("sizes_are_kept", "zdl/cell/cell.py", "def f(a, b, /, c, d, e, g): return 1", 1),
    ("sizes_are_kept", "zdl/cell/cell.py", "def f(*, a, b, c, d, e, g, h, i, j, k, m): return 1", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "table = {}", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "NAMES = ['a']", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "NAMES: list[str] = [n for n in 'ab']", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "PAIR = (1, set())", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "lock = threading.Lock()", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "NAMES = 'a b'.split()", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "if True:\n    pool = ThreadPoolExecutor(2)", 2),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "T = MappingProxyType({'a': []})", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "class C:\n    seen = {}", 2),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "class C:\n    __slots__ = ['a']", 2),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "def f():\n    class C:\n        seen = set()", 3),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "def f(x=[]):\n    return x", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "def f(*, x=dict()):\n    return x", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "@functools.lru_cache(maxsize=8)\ndef f(x):\n    return x", 1),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "def f():\n    global x\n    x = 1", 2),
    ("everything_public_is_documented", "zdl/cell/cell.py", "x = 1", 1),
    ("everything_public_is_documented", "zdl/cell/cell.py", DOC + "class C:\n    x = 1", 2),
    ("everything_public_is_documented", "zdl/cell/cell.py", DOC + "def f():\n" + _long(6), 2),
    ("everything_public_is_documented", "zdl/cell/cell.py", DOC + "class _C:\n async def f(self):\n" + _long(6), 3),
    ("names_say_something", "zdl/cell/utils.py", DOC, 1),
    ("names_say_something", "zdl/cell/frame_helpers.py", DOC, 1),
    ("names_say_something", "zdl/common/frames.py", DOC, 1),
    ("nothing_dangerous_is_called", "zdl/objects/pack.py", "import pickle", 1),
    ("nothing_dangerous_is_called", "zdl/cli/put.py", "def f():\n    from marshal import loads", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "def f(t):\n    return eval(t)", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "def f(t):\n    exec(t)", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "m = __import__('os')", 1),
    ("nothing_dangerous_is_called", "zdl/transport/loop.py", "def f(s):\n    return s.recv_pyobj()", 2),
    ("nothing_dangerous_is_called", "zdl/transport/loop.py", "def f(s):\n    return s.send_pyobj(1)", 2),
    ("nothing_dangerous_is_called", "zdl/transport/loop.py", "def f():\n    return zmq.Context.instance()", 2),
    ("nothing_dangerous_is_called", "zdl/download/files.py", "def f(p):\n    return np.load(p, allow_pickle=True)", 2),
    ("nothing_dangerous_is_called", "zdl/download/files.py", "def f(p, x):\n    return np.load(p, allow_pickle=x)", 2),
    ("nothing_dangerous_is_called", "zdl/download/tensors.py", "def f(p):\n    return torch.load(p)", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "def f():\n    sys.exit(1)", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "def f():\n    raise SystemExit", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "def f():\n    raise SystemExit(2)", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "def f():\n    os._exit(1)", 2),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "from os import _exit", 1),
    ("broad_excepts_have_their_places", "zdl/cell/cell.py", "try:\n    f()\nexcept Exception:\n    g()", 3),
    ("broad_excepts_have_their_places", "zdl/cell/cell.py", "try:\n    f()\nexcept:\n    g()", 3),
    ("broad_excepts_have_their_places", "zdl/cell/cell.py", "try:\n    f()\nexcept (OSError, Exception):\n    g()", 3),
    ("broad_excepts_have_their_places", "zdl/cell/cell.py", "with contextlib.suppress(Exception):\n    f()", 1),
    ("broad_excepts_have_their_places", "zdl/transport/loop.py", "try:\n    f()\nexcept Exception:\n    pass", 3),
    ("broad_excepts_have_their_places", "zdl/cell/cell.py", "try:\n    f()\nexcept KeyError:\n    ...", 3),
)
GOOD = (
    ("imports_go_one_way", "zdl/refs.py", "from zdl.errors import CannotUnpack\nfrom zdl.fqcn import parse"),
    ("imports_go_one_way", "zdl/protocol/calls.py", "import enum\nfrom zdl.protocol import frames\nimport zdl.refs"),
    ("imports_go_one_way", "zdl/assembly.py", "from zdl.cell.cell import Cell\nfrom zdl.download.broker import Broker"),
    ("imports_go_one_way", "zdl/cli/start.py", "from zdl import Cell, __version__\nimport zdl.transport.keys"),
    ("third_party_has_its_room", "zdl/transport/loop.py", "import zmq\nimport threading\nfrom zdl import errors"),
    ("third_party_has_its_room", "zdl/cli/bench.py", "def f():\n    from zdl_bench import rtt"),
    ("pure_rooms_are_pure", "zdl/transport/loop.py", "import time\nimport logging\nprint(1)"),
    ("pure_rooms_are_pure", "zdl/objects/atoms.py", "from datetime import date, datetime\nfrom uuid import UUID"),
    ("pure_rooms_are_pure", "zdl/objects/arrays.py", "import math\ndef f(x):\n    return np.dtype(x.open())"),
    ("imports_stand_at_the_top", "zdl/cell/cell.py", DOC + "from __future__ import annotations\nimport re\nx = 1"),
    ("imports_stand_at_the_top", "zdl/download/tensors.py", "def f():\n    import torch\n    return torch"),
    ("imports_stand_at_the_top", "zdl/objects/dtypes.py", "def f():\n    import ml_dtypes\n    return ml_dtypes"),
    ("imports_stand_at_the_top", "zdl/cli/main.py", "def f():\n    from rich.table import Table\n    return Table"),
    ("imports_stand_at_the_top", "zdl/__init__.py", "from importlib import import_module\nx = import_module"),
    ("types_need_no_block", "zdl/cell/cell.py", "from typing import Any"),
    ("sizes_are_kept", "zdl/cell/cell.py", "def f():\n    '''D.\n" + "\n" * 90 + "    '''\n" + _long(60)),
    ("sizes_are_kept", "zdl/cell/cell.py", "class C:\n" + _methods(12) + _methods(9, decorator="    @property\n")),
    ("sizes_are_kept", "zdl/cell/cell.py", "class C:\n    def f(self, a, b, c, d, e, *, g, h): return 1"),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "__all__ = ['a']\nA = (1, 'b')\nB = frozenset({1})\nimport re"),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "T = MappingProxyType({'a': (1,)})\nL = logging.getLogger('l')"),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "class C:\n x: list = field(default_factory=list)\n y: dict"),
    ("nothing_mutable_is_shared", "zdl/cell/cell.py", "def f(x=(), *, y=None):\n    seen = {}\n    return seen"),
    ("everything_public_is_documented", "zdl/cell/cell.py", DOC + "def f():\n    return 1\ndef _g():\n" + _long(9)),
    ("names_say_something", "zdl/cell/database.py", DOC),
    ("nothing_dangerous_is_called", "zdl/cell/cell.py", "def f(m):\n    return re.compile(m), m.eval(), m.load(1)"),
    ("nothing_dangerous_is_called", "zdl/cli/main.py", "def f():\n    sys.exit(1)"),
    ("nothing_dangerous_is_called", "zdl/transport/sockets.py", "def f():\n    return zmq.Context.instance()"),
    ("nothing_dangerous_is_called", "zdl/download/files.py", "def f(p):\n    return np.load(p, allow_pickle=False)"),
    ("broad_excepts_have_their_places", "zdl/transport/loop.py", "try:\n    f()\nexcept Exception as e:\n    g(e)"),
    ("broad_excepts_have_their_places", "zdl/cell/cell.py", "try:\n    f()\nexcept (KeyError, OSError):\n    g()"),
)


@pytest.mark.parametrize(("rule", "path", "text", "line"), BAD)
def test_a_broken_rule_is_found(rule: str, path: str, text: str, line: int) -> None:
    found = findings(rule, Source.parse(path, text))
    assert found, f"{rule} is blind to:\n{text}"
    assert all(each.startswith(f"{path}:{line}: ") and "; " in each for each in found), found


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_a_kept_rule_is_left_in_peace(rule: str, path: str, text: str) -> None:
    assert findings(rule, Source.parse(path, text)) == []


def test_every_rule_is_tested_from_both_sides() -> None:
    assert {row[0] for row in BAD} == {row[0] for row in GOOD} == set(RULE_NAMES)


def test_rooms_import_in_no_circle() -> None:
    done: set[str] = set()
    while ready := {room for room, allowed in MAY_IMPORT.items() if room not in done and allowed <= done}:
        done |= ready
    assert done == set(MAY_IMPORT)


@pytest.mark.parametrize(("text", "fault"), [
    (None, "zdl/cell/cell.py:1: has no test file; write tests/cell/test_cell.py"),
    ("from zdl.cell.cell import Cell\n", "tests/cell/test_cell.py:1: has no test; "),
    ("import zdl.errors\ndef test_it(): ...\n", "tests/cell/test_cell.py:1: does not import zdl.cell.cell; "),
    ("from zdl.cell.cell import Cell\ndef test_it(): ...\n", ""),
    ("from zdl.cell import cell\ndef test_it(): ...\n", ""),
])
def test_a_missing_or_hollow_partner_is_found(tmp_path: Path, text: str | None, fault: str) -> None:
    if text is not None:
        (tmp_path / "tests/cell").mkdir(parents=True)
        (tmp_path / "tests/cell/test_cell.py").write_text(text, encoding="utf-8")
    found = _partner_fault("zdl/cell/cell.py", tmp_path)
    assert found.startswith(fault) if fault else found == ""
