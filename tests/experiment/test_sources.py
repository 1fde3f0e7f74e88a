"""Which edits a digest of sources sees: code that is run, wherever it is imported from, and no words about it."""

import pytest

from project import PROJECT
from rnn_parity.experiment import sources
from rnn_parity.experiment.sources import digest

KERNELS = '''"""Fast."""
import torch
from . import tricks

def step(x):
    """One step."""
    return tricks.f(x)
'''
CASE = """
from rnn_parity import tables
from rnn_parity.experiment.grid import Case
from rnn_parity.cells import stack
"""
USER = {
    "my_layer/__init__.py": "from .kernels import step",
    "my_layer/kernels.py": KERNELS,
    "my_layer/tricks.py": "import helper\n\ndef f(x):\n    return helper.G * x",
    "helper.py": 'G = 1\n\ndef empty():\n    """Nothing."""\n',
    "unused.py": "import my_layer",
}
CORE = {
    "rnn_parity/__init__.py": "from rnn_parity.report import page",
    "rnn_parity/compare/case.py": CASE,
    "rnn_parity/cells/stack.py": "def run():\n    from rnn_parity.cells.late import late",
    "rnn_parity/cells/late.py": "late = 1",
    "rnn_parity/experiment/grid.py": "Case = 1",
    "rnn_parity/tables.py": "COLUMNS = ['a']",
    "rnn_parity/report/page.py": "page = 1",
}
IMPORTED = [
    "my_layer/__init__.py",
    "my_layer/kernels.py",
    "my_layer/tricks.py",
    "helper.py",
    "rnn_parity/cells/late.py",
]


@pytest.fixture
def seen(tmp_path):
    """Write the files, and say whether an edit of one of them changes the digest of some modules."""
    folders = [tmp_path / "src", tmp_path / "own"]
    for folder, files in zip(folders, (CORE, USER), strict=True):
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    def digest_now(modules):
        sources._read.cache_clear()
        sources._find.cache_clear()
        return digest(modules, folders)

    def is_seen(name, edit, modules=("rnn_parity.compare.case", "my_layer")):
        path = next(folder / name for folder in folders if (folder / name).exists())
        before, text = digest_now(modules), path.read_text()
        path.write_text(edit(text))
        after = digest_now(modules)
        path.write_text(text)
        return before != after

    return is_seen


def one_more(text):
    return text + "\nMORE = 1\n"


@pytest.mark.parametrize("name", IMPORTED)
def test_an_edit_of_code_that_is_imported_is_seen(seen, name):
    assert seen(name, one_more)


@pytest.mark.parametrize(
    "name", ["unused.py", "rnn_parity/tables.py", "rnn_parity/experiment/grid.py", "rnn_parity/report/page.py"]
)
def test_an_edit_of_what_is_not_imported_or_only_asks_and_writes_down_is_not(seen, name):
    assert not seen(name, one_more)


def test_where_a_digest_starts_it_looks(seen):
    assert seen("rnn_parity/tables.py", one_more, ["rnn_parity.tables"])
    assert seen("rnn_parity/cells/late.py", one_more, ["rnn_parity.cells.*"])


def test_comments_docstrings_and_blank_lines_are_no_code(seen):
    assert not seen("my_layer/kernels.py", lambda text: "# a comment\n\n" + text.replace("One step.", "A step."))
    assert not seen("my_layer/kernels.py", lambda text: text.replace('"""Fast."""', ""))
    assert not seen("helper.py", lambda text: text.replace("Nothing.", "Nothing at all."))
    assert seen("my_layer/kernels.py", lambda text: text.replace("f(x)", "f(2 * x)"))


def test_a_file_that_is_no_python_counts_as_it_is(seen):
    assert seen("helper.py", lambda text: "def broken(:\n")


def test_other_files_count_as_they_are(tmp_path):
    page = tmp_path / "templates/page.md.j2"
    page.parent.mkdir()
    page.write_text("one")
    before = digest([], [], [page.parent])
    page.write_text("two")
    assert digest([], [], [page.parent]) != before


def test_both_rules_that_read_kept_rates_are_run_again_with_others():
    rules = (PROJECT / "workflow/rules/report.smk").read_text()
    assert rules.count('"findings/kept"') == 2
    assert (PROJECT / "src/rnn_parity/findings/kept").is_dir()
