"""The code that a result depends on: the modules that compute it and all that they import, by content.

A digest of it is a parameter of every rule that measures, so that an edit runs again what it touches and nothing else.
Comments, docstrings and blank lines are not code. Imports nothing heavy, and none of the modules that it reads.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

LEFT_OUT = ("rnn_parity", "rnn_parity.api", "rnn_parity.tables", "rnn_parity.experiment")
"""Modules that no digest follows unless it starts there: the front door, and how a result is asked for and written
down. What these decide reaches a measurement in its request, so that a new column of a table measures nothing again."""

_PARTS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where a statement holds others."""


def digest(
    modules: Iterable[str], folders: Sequence[Path], files: Iterable[Path] = (), without: tuple[str, ...] = ()
) -> str:
    """A digest of the modules and of everything they import from the folders.

    Args:
        modules: dotted names; `package.*` means every module of a package. One that is in no folder is left out.
        folders: where modules are looked for, in this order, as in `sys.path`.
        files: other files, and folders of files, that count as they are.
        without: packages that the modules import for another purpose, as `rnn_parity.timing` where nothing is timed.
    """
    found: dict[str, Path] = {}
    named = {name for module in modules for name in _expand(module, folders)}
    waiting = sorted(named)
    while waiting:
        name = waiting.pop()
        left_out = name in LEFT_OUT or name.startswith("rnn_parity.experiment.")
        if name in found or (left_out and name not in named) or name.startswith(without):
            continue
        path = _find(name, tuple(folders))
        if path is not None:
            found[name] = path
            waiting += _read(name, path)[1]
        waiting += [name.rpartition(".")[0]] if "." in name else []  # importing a.b runs a too
    parts = [name.encode() + _read(name, path)[0] for name, path in sorted(found.items())]
    parts += [f"{path.name}\n".encode() + path.read_bytes() for path in _each_file(files)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _expand(module: str, folders: Sequence[Path]) -> Iterator[str]:
    package = module.removesuffix(".*")
    yield package
    if package != module:
        places = [folder.joinpath(*package.split(".")) for folder in folders]
        yield from (f"{package}.{path.stem}" for place in places for path in sorted(place.glob("[!_]*.py")))


@functools.cache
def _find(name: str, folders: tuple[Path, ...]) -> Path | None:
    for folder in folders:
        place = folder.joinpath(*name.split("."))
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                return path
    return None


@functools.cache
def _read(name: str, path: Path) -> tuple[bytes, tuple[str, ...]]:
    """A digest of a module's code, and the names that it may import; of its bare text where that is no Python."""
    text = path.read_text(encoding="utf-8", errors="replace")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imported: list[str] = []
    try:
        tree = ast.parse(text)
        waiting: list[ast.AST] = [tree]
        while waiting:  # statements alone: expressions import nothing, and most nodes are theirs
            node = waiting.pop()
            imported += _imported(node, package)
            for statements in filter(None, (getattr(node, part, None) for part in _PARTS)):
                statements[:] = [statement for statement in statements if not _is_text(statement)]
                waiting += statements
        text = ast.dump(tree)
    except (SyntaxError, ValueError):  # whoever imports it is told
        pass
    return hashlib.sha256(text.encode()).digest(), tuple(imported)


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a bare string, as docstrings are."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Every name that may be a module: of `from a import b` both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *filter(None, [node.module])])
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _each_file(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
