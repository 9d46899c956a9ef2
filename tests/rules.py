"""The rules of the house that can be read off the source, one function each.

A rule takes one parsed `Source` of ``zdl/`` and returns what it found: one line each, ``file:line: what is wrong; what
to do``. `RULES` lists them all. ``test_architecture.py`` puts every rule to every file, and tests the rules themselves.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTION_NODES = (ast.FunctionDef, ast.AsyncFunctionDef)

# --- the tables ---------------------------------------------------------------------------------

LEVEL_0 = frozenset({"errors", "fqcn", "refs", "options"})
SERVICES = frozenset({"download", "streaming"})
LEVELS_0_TO_2 = LEVEL_0 | {"protocol", "objects", "observe", "transport"}
LEVELS_0_TO_5 = LEVELS_0_TO_2 | SERVICES | {"cell", "assembly", "topology", "testing"}

# Section 4 of the architecture. A room is a folder of zdl/ or a file directly in it; "zdl" is zdl/__init__.py.
MAY_IMPORT = MappingProxyType({
    "errors": frozenset(),
    "fqcn": frozenset({"errors"}),
    "refs": frozenset({"errors", "fqcn"}),
    "options": frozenset({"errors"}),
    "protocol": LEVEL_0,
    "objects": LEVEL_0,
    "observe": LEVEL_0,
    "transport": LEVEL_0 | {"protocol", "observe"},
    "cell": LEVELS_0_TO_2,
    "download": LEVEL_0 | {"protocol", "objects", "observe", "cell"},
    "streaming": LEVEL_0 | {"protocol", "objects", "observe", "cell"},
    # The composition root: services are mounted on the public Cell here, and nowhere else.
    "assembly": LEVEL_0 | SERVICES | {"cell", "observe", "objects"},
    "topology": LEVEL_0 | SERVICES | {"cell", "observe", "assembly"},
    "testing": LEVEL_0 | SERVICES | {"cell", "observe", "assembly"},
    "cli": (LEVELS_0_TO_5 - {"protocol"}) | {"zdl"},
    "zdl": LEVEL_0 | {"cell", "assembly"},
    "__main__": frozenset({"cli"}),
})
# Every package from outside that zdl knows, and the rooms that may import it.
THIRD_PARTY = MappingProxyType({
    "zmq": frozenset({"transport"}),
    "msgpack": frozenset({"protocol", "objects"}),
    "numpy": frozenset({"objects", "download", "streaming", "testing", "cli"}),
    # A digest is a function of bytes: the brain may know it.
    "blake3": frozenset({"protocol", "download", "streaming", "cli"}),
    "xxhash": frozenset({"protocol"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "psutil": frozenset({"cli", "topology", "transport"}),
    "zdl_bench": frozenset({"cli"}),
    "pytest": frozenset({"testing"}),
    "torch": frozenset({"download", "testing", "cli"}),
    "ml_dtypes": frozenset({"download", "objects"}),
    "cryptography": frozenset({"transport", "cell", "cli"}),
    "prometheus_client": frozenset({"cli"}),
    "yaml": frozenset({"topology", "cli"}),
    "uvloop": frozenset({"cell", "cli"}),
})
OPTIONAL = frozenset({"torch", "ml_dtypes", "cryptography", "prometheus_client", "yaml", "uvloop"})

# The brain and the vocabulary know no clock, thread, randomness, environment, file, socket or log.
PURE_ROOMS = LEVEL_0 | {"protocol", "objects"}
IMPURE_MODULES = frozenset({
    "_thread", "asyncio", "atexit", "concurrent", "ctypes", "datetime", "fcntl", "ftplib", "getpass", "glob", "http",
    "importlib", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "platform", "queue", "random", "resource",
    "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "warnings"})
# What a pure room may take from these: values, which know no clock, no randomness and no file …
PURE_NAMES = MappingProxyType({
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}), "uuid": frozenset({"UUID"}),
    "pathlib": frozenset({"PurePath", "PurePosixPath"})})
# … as long as nobody asks them for the present moment, or for the time zone of this machine.
IMPURE_METHODS = frozenset({
    "now", "today", "utcnow", "fromtimestamp", "utcfromtimestamp", "timestamp", "astimezone", "ctime"})
IMPURE_CALLS = frozenset({"open", "print", "input", "breakpoint"})
IMPURE_NUMPY = frozenset({"random", "load", "save", "savez", "fromfile", "loadtxt", "savetxt", "genfromtxt"})

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
CLASS_LINES_MAX = 300
PUBLIC_METHODS_MAX = 12
PARAMETERS_MAX = 5
KEYWORDS_MAX = 10
UNDOCUMENTED_LINES_MAX = 6
# (file, class, public methods, reason): classes that may have more public methods than the house allows, and why.
MANY_METHODS: tuple[tuple[str, str, int, str], ...] = (
    ("zdl/protocol/peers.py", "Peers", 15, "four verbs that every machine has, and what the switch and the loop tell it"),
    ("zdl/protocol/introductions.py", "Introductions", 13, "four verbs that every machine has; each step of a link is told"),
    ("zdl/transport/control.py", "Control", 14, "six are asked of every desk by its loop"),
    ("zdl/download/cacheable.py", "CacheableObject", 13, "its contract is the ancestor's: five of its own beside the six hooks"),
)

MUTABLE_CALLS = frozenset({
    "dict", "list", "set", "bytearray", "sorted", "fromkeys", "split", "rsplit", "splitlines", "defaultdict",
    "OrderedDict", "Counter", "deque", "ChainMap", "count", "cycle", "iter",
    "array", "zeros", "ones", "empty", "arange",
    "Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "local", "Thread", "Timer",
    "Queue", "SimpleQueue", "LifoQueue", "PriorityQueue", "ThreadPoolExecutor", "ProcessPoolExecutor", "Future",
    "Context", "Poller", "socket", "Random", "WeakValueDictionary", "WeakKeyDictionary", "WeakSet", "SimpleNamespace",
    "BytesIO", "StringIO", "ContextVar"})
MUTABLE_DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp, ast.GeneratorExp)
CACHES = frozenset({"cache", "lru_cache"})

EMPTY_WORDS = frozenset({
    "util", "utils", "helper", "helpers", "common", "base", "bases", "manager", "managers", "misc"})
FORBIDDEN_MODULES = frozenset({"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"})
FORBIDDEN_NAMES = frozenset({"eval", "exec", "compile", "__import__", "exit", "quit"})
FORBIDDEN_ATTRIBUTES = frozenset({"recv_pyobj", "send_pyobj", "_exit"})
# inproc addresses exist within one context only, so the cells that use them must share the process's one.
SHARED_CONTEXT_PLACE = "zdl/transport/sockets.py"
BROAD_ERRORS = frozenset({"Exception", "BaseException"})
BROAD_EXCEPT_PLACES = frozenset({
    "zdl/transport/loop.py", "zdl/transport/lane.py", "zdl/cell/handlers.py", "zdl/cell/answering.py",
    "zdl/download/broker.py", "zdl/download/lending.py", "zdl/objects/values.py", "zdl/cli/main.py"})


# --- reading a source ---------------------------------------------------------------------------

@dataclass(frozen=True)
class Source:
    """One file of ``zdl/``; `path` is relative to the checkout, with forward slashes."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> Source:
        """The source in `text`, as if it lay at `path`."""
        return cls(path, text, ast.parse(text, filename=path))

    @property
    def room(self) -> str:
        """The folder or top-level file of zdl that it belongs to; "zdl" for ``zdl/__init__.py``."""
        first = self.path.split("/")[1].removesuffix(".py")
        return "zdl" if first == "__init__" else first

    def at(self, node: ast.AST | int, wrong: str, cure: str) -> str:
        """One finding."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {wrong}; {cure}"

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        """All nodes of these kinds, anywhere in the file."""
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def imported(self) -> Iterator[tuple[ast.AST, str]]:
        """Every module that it imports, absolute; ``from zdl import cell`` is ``zdl.cell``."""
        for node in self.nodes(ast.Import, ast.ImportFrom):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                module = node.module or ""
                yield from ((node, f"zdl.{alias.name}") for alias in node.names if module == "zdl")
                if module != "zdl":
                    yield node, module


def last_name(node: ast.AST | None) -> str:
    """``c`` of ``a.b.c`` and of ``c``; empty for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def first_name(node: ast.AST) -> str:
    """``a`` of ``a.b.c``; empty for anything else."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def lines_of(node: ast.stmt) -> int:
    """Lines of a statement, decorators not counted."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


# --- the rules ----------------------------------------------------------------------------------

def imports_go_one_way(source: Source) -> list[str]:
    """Rooms of zdl import each other as the table in section 4 says."""
    allowed = MAY_IMPORT.get(source.room)
    if allowed is None:
        return [source.at(1, f"zdl has no room named {source.room}", "see section 5 for the tree, then MAY_IMPORT")]
    found = []
    for node, module in source.imported():
        parts = module.split(".")
        if parts[0] != "zdl":
            continue
        room = parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "zdl"
        if room != source.room and room not in allowed:
            found.append(source.at(node, f"{source.room} may not import {room}",
                                   f"it may import {', '.join(sorted(allowed)) or 'nothing of zdl'}: move the code"))
    return found


def third_party_has_its_room(source: Source) -> list[str]:
    """A package from outside is imported in its own rooms only."""
    found = []
    for node, module in source.imported():
        package = module.split(".")[0]
        if package != "zdl" and package not in sys.stdlib_module_names:
            rooms = THIRD_PARTY.get(package, frozenset())
            if source.room not in rooms:
                found.append(source.at(node, f"{source.room} may not import {package}",
                                       f"only {', '.join(sorted(rooms)) or 'nobody'} may: ask them for what is needed"))
    return found


def pure_rooms_are_pure(source: Source) -> list[str]:
    """The brain and the vocabulary hold no socket, thread, lock, clock, randomness, environment, file or log."""
    if source.room not in PURE_ROOMS:
        return []
    cure = "time and ids come in as values, everything else is done by a shell"
    found = [source.at(node, f"{module} has no place in {source.room}", cure) for node, module in source.imported()
             if module.split(".")[0] in IMPURE_MODULES and not _takes_values(node)]
    for node in source.nodes(ast.Call):
        assert isinstance(node, ast.Call)
        if isinstance(node.func, ast.Attribute) and node.func.attr in IMPURE_METHODS:
            found.append(source.at(node, f".{node.func.attr}() has no place in {source.room}", cure))
        if isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(source.at(node, f"{node.func.id}() has no place in {source.room}", cure))
    for node in source.nodes(ast.Attribute):
        assert isinstance(node, ast.Attribute)
        if node.attr in IMPURE_NUMPY and isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy"):
            found.append(source.at(node, f"numpy.{node.attr} has no place in {source.room}", cure))
    return found


def _takes_values(node: ast.AST) -> bool:
    """Whether it imports nothing but types of values, by their names."""
    allowed = PURE_NAMES.get(getattr(node, "module", None) or "", frozenset())
    return isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} <= allowed


def imports_stand_at_the_top(source: Source) -> list[str]:
    """Imports are absolute, without stars, and head the file, but for optional dependencies and in the cli."""
    found, at_top, head_ended = [], set(), False
    for index, statement in enumerate(source.tree.body):
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            at_top.add(statement)
            if head_ended:
                found.append(source.at(statement, "an import below the head of the file", "move it up to the others"))
        elif not (index == 0 and ast.get_docstring(source.tree, clean=False) is not None):
            head_ended = True
    for node in source.nodes(ast.Import, ast.ImportFrom):
        assert isinstance(node, (ast.Import, ast.ImportFrom))
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append(source.at(node, "a relative import", "write the whole name: from zdl.…"))
        if any(alias.name == "*" for alias in node.names):
            found.append(source.at(node, "a star import", "name what is needed"))
    for node, module in source.imported():
        package = module.split(".")[0]
        optional = package in OPTIONAL and source.room in THIRD_PARTY[package]
        if node not in at_top and source.room != "cli" and not optional:
            found.append(source.at(node, f"a deferred import of {module}",
                                   "move it to the top; if that makes a circle, the layers are wrong"))
    if source.room != "cli" and source.path != "zdl/__init__.py":
        found += [source.at(node, "an import by name", "import it at the top of the file")
                  for node in source.nodes(ast.Name, ast.Attribute) if last_name(node) == "import_module"]
    return found


def types_need_no_block(source: Source) -> list[str]:
    """There is no ``TYPE_CHECKING`` block, under any name."""
    named = [node for node in source.nodes(ast.Name, ast.Attribute) if last_name(node) in ("TYPE_CHECKING", "MYPY")]
    named += [node for node in source.nodes(ast.ImportFrom)
              if any(alias.name == "TYPE_CHECKING" for alias in getattr(node, "names"))]
    return [source.at(node, "a TYPE_CHECKING block", "if types need one, the layers are wrong") for node in named]


def sizes_are_kept(source: Source) -> list[str]:
    """Files, functions, classes and signatures stay within their budgets."""
    found = []
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        found.append(source.at(FILE_LINES_MAX + 1, f"{lines} lines, limit {FILE_LINES_MAX}", "split it by idea"))
    for node in ast.walk(source.tree):
        if isinstance(node, FUNCTION_NODES):
            found += _size_of_function(source, node)
        elif isinstance(node, ast.ClassDef):
            found += _size_of_class(source, node)
    return found


def _size_of_function(source: Source, node: FunctionNode) -> Iterator[str]:
    documented = ast.get_docstring(node, clean=False) is not None
    lines = lines_of(node) - (lines_of(node.body[0]) if documented else 0)
    if lines > FUNCTION_LINES_MAX:
        yield source.at(node, f"{node.name} has {lines} lines, limit {FUNCTION_LINES_MAX}", "give a part of it a name")
    positional = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
    count = len(positional) - (positional[:1] in (["self"], ["cls"], ["mcs"]))
    if count > PARAMETERS_MAX:
        yield source.at(node, f"{node.name} takes {count} parameters by position, limit {PARAMETERS_MAX}",
                        "make them keyword-only, or an options class")
    if len(node.args.kwonlyargs) > KEYWORDS_MAX:
        yield source.at(node, f"{node.name} takes {len(node.args.kwonlyargs)} keywords, limit {KEYWORDS_MAX}",
                        "make an options class of them")


def _size_of_class(source: Source, node: ast.ClassDef) -> Iterator[str]:
    if lines_of(node) > CLASS_LINES_MAX:
        yield source.at(node, f"{node.name} has {lines_of(node)} lines, limit {CLASS_LINES_MAX}",
                        "it has two duties: give each a class")
    allowed = max((most for path, name, most, _ in MANY_METHODS if (path, name) == (source.path, node.name)),
                  default=PUBLIC_METHODS_MAX)
    count = public_methods_count(node)
    if count > allowed:
        yield source.at(node, f"{node.name} has {count} public methods, limit {allowed}",
                        "move a group of them to a class of its own, or give the reason in MANY_METHODS")


def public_methods_count(node: ast.ClassDef) -> int:
    """Public methods of a class; properties are attributes, and overloads are one."""
    attributes = ("property", "cached_property", "setter", "getter", "deleter")
    return len({each.name for each in node.body if isinstance(each, FUNCTION_NODES) and not each.name.startswith("_")
                and not any(last_name(decorator) in attributes for decorator in each.decorator_list)})


def nothing_mutable_is_shared(source: Source) -> list[str]:
    """No module or class holds mutable state, no function has a mutable default, a cache or a global."""
    cure = "freeze it (tuple, frozenset, MappingProxyType) or give it to an instance"
    bodies = [source.tree.body] + [node.body for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    found = []
    for statement in (each for body in bodies for each in _outside_functions(body)):
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and _is_mutable(statement.value):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if [last_name(target) for target in targets] != ["__all__"]:
                name = ast.unparse(targets[0])
                found.append(source.at(statement, f"{name} is mutable and shared by all cells", cure))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            found.append(source.at(node, f"global {', '.join(node.names)}", "state belongs to an instance"))
        elif isinstance(node, FUNCTION_NODES):
            defaults = (*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None))
            found += [source.at(each, f"{node.name} has a mutable default", cure)
                      for each in defaults if _is_mutable(each)]
            callables = (each.func if isinstance(each, ast.Call) else each for each in node.decorator_list)
            found += [source.at(each, f"{node.name} keeps a cache for the whole process",
                                "compute it, or keep the cache in an instance") for each in callables
                      if last_name(each) in CACHES]
    return found


def _outside_functions(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body and of its blocks, but not of functions and classes."""
    for statement in body:
        if isinstance(statement, (*FUNCTION_NODES, ast.ClassDef)):
            continue
        yield statement
        for block in ("body", "orelse", "finalbody"):
            yield from _outside_functions(getattr(statement, block, []))
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _outside_functions(part.body)


def _is_mutable(value: ast.expr | None) -> bool:
    """Whether an expression makes something that can be changed, as far as can be read off it."""
    if isinstance(value, MUTABLE_DISPLAYS):
        return True
    if isinstance(value, (ast.Tuple, ast.IfExp, ast.BoolOp, ast.BinOp, ast.Starred, ast.NamedExpr, ast.Await)):
        return any(_is_mutable(part) for part in ast.iter_child_nodes(value) if isinstance(part, ast.expr))
    if not isinstance(value, ast.Call):
        return False
    table = value.args[0] if last_name(value.func) == "MappingProxyType" and value.args else None
    if isinstance(table, (ast.Dict, ast.DictComp)):
        return any(_is_mutable(each) for each in (table.values if isinstance(table, ast.Dict) else [table.value]))
    return last_name(value.func) in MUTABLE_CALLS


def everything_public_is_documented(source: Source) -> list[str]:
    """Modules, public classes, and public functions of more than a few lines have a docstring."""
    found = []
    if not ast.get_docstring(source.tree):
        found.append(source.at(1, "the module has no docstring", "say in one sentence what it is"))
    for node in ast.walk(source.tree):
        if not isinstance(node, (*FUNCTION_NODES, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node):
            continue
        if isinstance(node, ast.ClassDef) or lines_of(node) > UNDOCUMENTED_LINES_MAX:
            found.append(source.at(node, f"{node.name} has no docstring", "say what it does and what it promises"))
    return found


def names_say_something(source: Source) -> list[str]:
    """No file or folder is named by a word that fits everything."""
    words = {word for part in source.path.removesuffix(".py").split("/") for word in part.split("_")}
    return [source.at(1, f"the name {word!r} says nothing about what is inside", "name the idea")
            for word in sorted(words & EMPTY_WORDS)]


def nothing_dangerous_is_called(source: Source) -> list[str]:
    """What the wire brings is never run as code, and library code never ends the process."""
    found = [source.at(node, f"{module} is forbidden", "what travels goes through zdl.objects")
             for node, module in source.imported() if module.split(".")[0] in FORBIDDEN_MODULES]
    for node in source.nodes(ast.Attribute, ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else [last_name(node)]
        found += [source.at(node, f"{name} is forbidden", "it runs what others wrote, or ends the process")
                  for name in names if name in FORBIDDEN_ATTRIBUTES]
    cure = "raise a ZdlError: no library code ends the process"
    may_exit = source.room in ("cli", "__main__")
    for node in source.nodes(ast.Call, ast.Raise):
        if isinstance(node, ast.Call):
            found += _dangers_of_call(source, node, may_exit=may_exit)
        elif isinstance(node, ast.Raise) and not may_exit and "SystemExit" in (
                last_name(node.exc), last_name(getattr(node.exc, "func", None))):
            found.append(source.at(node, "SystemExit outside zdl/cli", cure))
    return found


def _dangers_of_call(source: Source, node: ast.Call, *, may_exit: bool) -> Iterator[str]:
    func = node.func
    keywords = {each.arg: each.value.value for each in node.keywords if isinstance(each.value, ast.Constant)}
    if isinstance(func, ast.Name) and func.id in FORBIDDEN_NAMES:
        yield source.at(node, f"{func.id}() is forbidden", "dispatch through a table; end by a ZdlError")
    if not isinstance(func, ast.Attribute):
        return
    if func.attr == "exit" and first_name(func) == "sys" and not may_exit:
        yield source.at(node, "sys.exit outside zdl/cli", "raise a ZdlError: no library code ends the process")
    if any(each.arg == "allow_pickle" for each in node.keywords) and keywords.get("allow_pickle") is not False:
        yield source.at(node, "allow_pickle", "leave it out: pickles are never read")
    if func.attr == "load" and first_name(func) == "torch" and keywords.get("weights_only") is not True:
        yield source.at(node, "torch.load reads pickles", "weights_only=True, or safetensors")
    if func.attr == "instance" and last_name(func.value) == "Context" and source.path != SHARED_CONTEXT_PLACE:
        yield source.at(node, "Context.instance() is one for the whole process", f"ask {SHARED_CONTEXT_PLACE} for one")


def broad_excepts_have_their_places(source: Source) -> list[str]:
    """``except Exception`` stands at the top of a loop, at the call of user code and in cli/main; none is silent."""
    found = []
    cure = "name the errors that can happen; only loops, handlers, the broker and cli/main.py catch all"
    for node in source.nodes(ast.ExceptHandler, ast.Call):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            broad = node.type is None or any(last_name(each) in BROAD_ERRORS for each in caught)
            if all(isinstance(each, ast.Pass) or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
                   for each in node.body):
                found.append(source.at(node, "an error is swallowed in silence",
                                       "act on it, or write contextlib.suppress(TheError) and why"))
        else:
            assert isinstance(node, ast.Call)
            broad = last_name(node.func) == "suppress" and any(last_name(each) in BROAD_ERRORS for each in node.args)
        if broad and source.path not in BROAD_EXCEPT_PLACES:
            found.append(source.at(node, "a handler for every error", cure))
    return found


RULES = (
    imports_go_one_way, third_party_has_its_room, pure_rooms_are_pure, imports_stand_at_the_top, types_need_no_block,
    sizes_are_kept, nothing_mutable_is_shared, everything_public_is_documented, names_say_something,
    nothing_dangerous_is_called, broad_excepts_have_their_places,
)
