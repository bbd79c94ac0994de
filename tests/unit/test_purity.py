"""lws_core and lws_sim are pure: read from their source, module by module.

No clock, no randomness, no environment, no I/O, no threads and no event loop can be reached from them, no
order depends on a set, and no module imports one that stands after it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("lws_core", "lws_sim")

STANDARD: Final = frozenset(
    {
        "__future__", "bisect", "collections.abc", "datetime", "difflib", "fractions", "functools", "hashlib",
        "itertools", "json", "math", "re", "typing", "zlib",
    }
)  # fmt: skip
ALLOWED: Final = {
    "lws_core": STANDARD | {"attrs", "lws_core"},
    "lws_sim": STANDARD | {"attrs", "lws_core", "lws_sim"},
}
REFUSED: Final = frozenset(
    {"open", "print", "input", "hash", "id", "exec", "eval", "globals", "__import__", "breakpoint"}
)
CLOCKS: Final = frozenset({"now", "utcnow", "today"})
ORDER_FREE: Final = frozenset({"sorted", "set", "frozenset", "any", "all", "sum", "len", "min", "max"})
ORDERED: Final = frozenset(
    {"list", "tuple", "dict", "iter", "enumerate", "zip", "map", "filter", "FrozenMap"}
)
SET_METHODS: Final = frozenset({"union", "intersection", "difference", "symmetric_difference"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.DictComp | ast.GeneratorExp


def sources(package: str) -> dict[str, str]:
    """The source of every module of a package by its dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


SOURCES: Final = {package: sources(package) for package in PACKAGES}
MODULES: Final = [(package, module) for package, found in SOURCES.items() for module in found]


def imports(module: str, source: str, *, package: bool = False) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Line, module and names of every import, the relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            up = node.level - (1 if package else 0)
            above = base[: len(base) - up] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            yield node.lineno, name, tuple(alias.name for alias in node.names)


def faults(source: str, allowed: frozenset[str], module: str = "m", *, package: bool = False) -> list[str]:
    """Everything in a module that is not pure."""
    found = []
    for line, name, _ in imports(module, source, package=package):
        if name not in allowed and name.split(".")[0] not in allowed - STANDARD:
            found.append(f"{line}: imports {name}")
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name in REFUSED:
                found.append(f"{node.lineno}: uses {name}")
            case ast.Attribute(attr=name) if name in CLOCKS:
                found.append(f"{node.lineno}: reads a clock by {name}")
            case ast.Call(func=ast.Attribute(attr="fromtimestamp"), args=args) if len(args) < 2:
                found.append(f"{node.lineno}: reads the local time zone")
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                found.append(f"{node.lineno}: is asynchronous")
            case ast.Global():
                found.append(f"{node.lineno}: changes what outlives a call")
    return [*found, *order_leaks(tree)]


def order_leaks(tree: ast.Module) -> list[str]:
    """Where the order of a set reaches a result, as far as one function and the module's own names tell."""
    shared = set_names(tree.body, frozenset())
    found = list(_leaks(_own(tree), shared))
    for node in ast.walk(tree):
        if isinstance(node, Function):
            known = shared | set_names(list(_own(node)), shared)
            found += _leaks(_own(node), known)
    return sorted(found, key=lambda text: int(text.split(":")[0]))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function):
            yield child
            yield from _own(child)


def set_names(nodes: list[ast.AST] | list[ast.stmt], known: frozenset[str]) -> frozenset[str]:
    """Names that are given a set."""
    names = set(known)
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if is_set(value, frozenset(names)):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if is_set(
                value, frozenset(names)
            ):
                names.add(name)
    return frozenset(names)


def is_set(node: ast.AST, names: frozenset[str]) -> bool:
    """Whether an expression is a set for sure."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name):
            return name in names
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in SET_METHODS:
            return is_set(value, names)
        case ast.BinOp(left=left, right=right, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return is_set(left, names) or is_set(right, names)
    return False


def _leaks(nodes: Iterator[ast.AST], names: frozenset[str]) -> Iterator[str]:
    scope = list(nodes)
    harmless = {
        argument
        for node in scope
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ORDER_FREE
        for argument in node.args
    }
    for node in scope:
        match node:
            case ast.For(iter=iterated) if is_set(iterated, names):
                yield f"{node.lineno}: walks a set"
            case ast.ListComp() | ast.DictComp() | ast.GeneratorExp() if node not in harmless:
                if any(is_set(part.iter, names) for part in node.generators):
                    yield f"{node.lineno}: builds from a set"
            case ast.Starred(value=value) if is_set(value, names):
                yield f"{node.lineno}: spreads a set"
            case ast.Call(func=ast.Name(id=name), args=args) if name in ORDERED:
                if any(is_set(argument, names) for argument in args):
                    yield f"{node.lineno}: orders a set by {name}"
            case ast.Call(func=ast.Attribute(attr="join" | "pop"), args=args) if any(
                is_set(argument, names) for argument in args
            ):
                yield f"{node.lineno}: joins a set"
            case ast.Call(func=ast.Attribute(attr="pop", value=value), args=[]) if is_set(value, names):
                yield f"{node.lineno}: takes any one of a set"


def is_package(module: str) -> bool:
    return (ROOT / Path(*module.split(".")) / "__init__.py").exists()


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_module_never_reaches_beyond_its_arguments(package: str, module: str) -> None:
    source = SOURCES[package][module]
    assert faults(source, ALLOWED[package], module, package=is_package(module)) == []


def import_graph() -> dict[str, set[str]]:
    """For each module of the pure packages, those of them that it imports."""
    modules = {module for _, module in MODULES}
    graph: dict[str, set[str]] = {}
    for package, module in MODULES:
        used = set()
        for _, name, parts in imports(module, SOURCES[package][module], package=is_package(module)):
            inner = {f"{name}.{part}" for part in parts} & modules
            used |= inner or ({name} & modules)
        graph[module] = used - {module}
    return graph


def test_module_never_imports_one_that_stands_after_it() -> None:
    TopologicalSorter(import_graph()).prepare()  # raises CycleError


def test_core_never_knows_of_the_packages_over_it() -> None:
    graph = import_graph()
    assert all(used.startswith("lws_core") for module in SOURCES["lws_core"] for used in graph[module])
    assert len(graph["lws_core.controller"]) > 5


@pytest.mark.parametrize(
    ("snippet", "fault"),
    [
        ("import time", "1: imports time"),
        ("from os import path", "1: imports os"),
        ("import collections", "1: imports collections"),
        ("def f():\n    import random", "2: imports random"),
        ("import lws_sim.world", "1: imports lws_sim.world"),
        ("from lws_runtime import cli", "1: imports lws_runtime"),
        ("from ..lws_sim import world", "1: imports lws_sim"),
        ("x = hash(1)", "1: uses hash"),
        ("f = print", "1: uses print"),
        ("x = __import__('os')", "1: uses __import__"),
        ("from datetime import datetime\nx = datetime.now()", "2: reads a clock by now"),
        ("from datetime import datetime\nx = datetime.fromtimestamp(1)", "2: reads the local time zone"),
        ("async def f(): pass", "1: is asynchronous"),
        ("def f():\n    global x", "2: changes what outlives a call"),
        ("for x in {1, 2}: pass", "1: walks a set"),
        ("for x in set(y): pass", "1: walks a set"),
        ("def f(y):\n    x = frozenset(y)\n    for z in x: pass", "3: walks a set"),
        ("S = {1}\ndef f():\n    return [x for x in S]", "3: builds from a set"),
        ("x = tuple(y * 2 for y in set(z))", "1: builds from a set"),
        ("x = {y: 1 for y in {1} | z}", "1: builds from a set"),
        ("x = list({1, 2})", "1: orders a set by list"),
        ("x = [*{1, 2}]", "1: spreads a set"),
        ("x = ','.join({'a'})", "1: joins a set"),
        ("x = {1}.pop()", "1: takes any one of a set"),
    ],
)
def test_check_always_finds_what_is_not_pure(snippet: str, fault: str) -> None:
    module = "lws_core.m"
    assert faults(snippet, ALLOWED["lws_core"], module) == [fault]


@pytest.mark.parametrize(
    "snippet",
    [
        "x = sorted({1, 2})",
        "x = sorted(y for y in {1, 2})",
        "x = 1 in {1, 2}",
        "x = {y for y in {1, 2}}",
        "x = len(set(y)) + sum(frozenset(y))",
        "x = y.__hash__()",
        "import attrs\nfrom collections.abc import Mapping",
        "from . import names\nfrom .values import EMPTY\nfrom lws_core.spec import Spec",
        "def f(x): return [y for y in x]\ndef g():\n    x = {1}",
    ],
)
def test_check_never_finds_fault_with_what_is_pure(snippet: str) -> None:
    assert faults(snippet, ALLOWED["lws_core"], "lws_core.m") == []


def test_check_of_the_order_always_finds_a_circle() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_check_never_passes_over_the_modules() -> None:
    assert len(SOURCES["lws_core"]) > 40
    assert "lws_core.desired.pod" in SOURCES["lws_core"]
    assert len(SOURCES["lws_sim"]) > 10
