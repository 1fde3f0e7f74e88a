"""The rooms stand on floors, every import points downward, and no file or folder is too large to be read."""

import ast
from collections import Counter
from graphlib import TopologicalSorter

from project import PROJECT

SOURCES = PROJECT / "src"
FLOORS = (
    ("experiment", "statistics"),
    ("tables", "cells"),
    ("layers",),
    ("dropout", "capabilities"),
    ("compare",),
    ("timing", "life"),
    ("workloads", "trust"),
    ("findings", "tracking", "steps"),
    ("report", "bundles", "checkpoints"),
    ("api", "convert"),
    ("commands", "testing", "rnn_parity", "rnn_parity_t2vec"),
)
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MEASURING = HEIGHT["findings"]  # the floors below it are imported by the processes that measure
SHOWING = {"mlflow", "pandas", "matplotlib", "seaborn", "snakemake"}


def module_name(path):
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES.rglob("*.py")}


def imports(path):
    """The modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


IMPORTED = {module: set(imports(path)) for module, path in MODULES.items()}


def room(module):
    package, *inner = module.split(".")
    if inner == ["__main__"]:
        return "commands"
    return inner[0] if inner and package == "rnn_parity" else package


def packages(module):
    return {name.partition(".")[0] for name in IMPORTED[module]}


def test_there_are_at_most_eleven_floors_and_every_module_stands_on_one():
    assert len(FLOORS) <= 11
    assert {room(module) for module in MODULES} <= set(HEIGHT)


def test_a_room_imports_only_from_the_floors_below():
    arrows = {(module, name) for module in MODULES for name in IMPORTED[module] & set(MODULES)}
    upward = {
        (room(module), room(name))
        for module, name in arrows
        if room(module) != room(name) and HEIGHT[room(module)] <= HEIGHT[room(name)]
    }
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: names & set(MODULES) for module, names in IMPORTED.items()}
    TopologicalSorter(graph).prepare()


def test_the_core_imports_no_workload_from_outside():
    core = [module for module in MODULES if module.startswith("rnn_parity.")]
    assert not [module for module in core if "rnn_parity_t2vec" in packages(module)]


def test_the_experiment_needs_no_torch():
    assert not [module for module in MODULES if room(module) == "experiment" and "torch" in packages(module)]


def test_a_measuring_module_imports_nothing_that_shows():
    measuring = [module for module in MODULES if HEIGHT[room(module)] < MEASURING]
    assert not {module: packages(module) & SHOWING for module in measuring if packages(module) & SHOWING}


def test_no_file_has_more_than_350_lines_and_no_folder_more_than_15_files():
    assert not {module for module, path in MODULES.items() if len(path.read_text().splitlines()) > 350}
    sizes = Counter(path.parent for path in MODULES.values())
    assert not {str(folder) for folder, size in sizes.items() if size > 15}
