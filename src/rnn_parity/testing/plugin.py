"""The hooks of pytest: options, items, properties, annotations, and one line for each layer and case."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rnn_parity.experiment.errors import InputError, did_you_mean
from rnn_parity.testing.checks import Check, checks_of
from rnn_parity.testing.judging import Asked, Judge
from rnn_parity.testing.options import add_options, complete, expected_failures, of_session, require_layers

LAYERS, OPTIONS_MARK = "rnn_layers", "rnn_parity"
"""The marker that `rnn_parity.parametrize_with_checks` makes, and the one for options of a class or a module."""

PROPERTY = "rnn_parity_"
_JUDGE = pytest.StashKey[Judge]()
_FOLDER = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, refuse options that cannot be used, and prepare to judge."""
    config.addinivalue_line("markers", f"{OPTIONS_MARK}(**options): options of rnn_parity.parametrize_with_checks")
    config.addinivalue_line("markers", f"{LAYERS}(layers): what rnn_parity.parametrize_with_checks makes")
    of_session(config)
    expected_failures(config)
    if layers := config.getoption("rnn_layer"):
        require_layers(layers, "--rnn-layer")
    folder = getattr(config, "workerinput", {}).get(f"{PROPERTY}folder")
    config.stash[_JUDGE] = Judge(folder=Path(folder) if folder else None)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the workers of pytest-xdist a folder in which they share their results."""
    stash = node.config.stash
    if _FOLDER not in stash:
        stash[_FOLDER] = tempfile.mkdtemp(prefix="rnn-parity-")
    node.workerinput[f"{PROPERTY}folder"] = stash[_FOLDER]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the judging process, and remove the shared folder."""
    if _JUDGE in config.stash:
        config.stash[_JUDGE].close()
    if _FOLDER in config.stash:
        shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its layers and checks."""
    mark = metafunc.definition.get_closest_marker(LAYERS)
    if mark is None:
        return
    item, (layers, expected) = metafunc.definition, mark.args
    try:
        if missing := [name for name in ("layer", "check") if name not in metafunc.fixturenames]:
            raise pytest.UsageError(f"{item.name}: takes no {missing[0]}, expected the arguments layer and check")
        require_layers(layers, "layers")
        options = complete(metafunc.config, mark.kwargs, [found.kwargs for found in item.iter_markers(OPTIONS_MARK)])
        found = list(_items(metafunc.config, item.nodeid, layers, options, expected))
    except pytest.UsageError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    values = [
        pytest.param(layer, check, id=f"{check.layer}-{check.name}", marks=marks) for layer, check, marks in found
    ]
    metafunc.parametrize(("layer", "check"), values)


class LayerItem(pytest.Item):
    """A check of a layer that the command line names."""

    check: Check

    def runtest(self) -> None:
        """Judge the layer, or look up the result."""
        self.check()

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it is from: the command line."""
        return self.config.rootpath, None, f"--rnn-layer: {self.name}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the items of `--rnn-layer`, before others choose among all items."""
    layers = config.getoption("rnn_layer")
    if not layers:
        return
    sys.path.insert(0, str(config.invocation_params.dir))  # it may be in this folder, as for `rnn-parity check`
    for _, check, marks in _items(config, "--rnn-layer", layers, complete(config, {}), {}):
        name = f"{check.layer}-{check.name}"
        item = LayerItem.from_parent(session, name=name, nodeid=f"rnn-parity::{name}")
        item.check = check
        for mark in marks:
            item.add_marker(mark)
        items.append(item)


def _items(
    config: pytest.Config, origin: str, layers: Sequence[Any], options: Mapping[str, Any], expected: Any
) -> Iterator[tuple[Any, Check, list[pytest.MarkDecorator]]]:
    """Every layer with each of its checks, and the marks of those that must fail."""
    expected, judge, found = expected_failures(config, expected), config.stash[_JUDGE], []
    labels: list[str] = []
    for layer in layers:
        label = next(name for name in _numbered(_label(layer)) if name not in labels)
        labels.append(label)
        for case in options["like"]:
            key, bundles = f"{origin} {label} {case}", config.getoption("rnn_bundle")
            known = {asked.place for asked in judge.asked.values()}  # of other tests, maybe with other options
            place = next(f"{name} {case}" for name in _numbered(label) if f"{name} {case}" not in known)
            bundle = Path(bundles, place.replace(" ", "-")) if bundles else None
            judge.asked[key] = Asked(layer, case, options, bundle, place)
            found += [
                (layer, check, key) for check in checks_of(label, case, options, partial(judge.result, key), place)
            ]
    names = [name for _, check, _ in found for name in (f"{check.layer}-{check.name}", check.name)]
    for pattern in expected:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise pytest.UsageError(f"expected_failures: {pattern!r} names no check{did_you_mean(pattern, names)}")
    for layer, check, key in found:
        own = (f"{check.layer}-{check.name}", check.name)
        reasons = [reason for pattern, reason in expected.items() if any(fnmatchcase(name, pattern) for name in own)]
        marks = [pytest.mark.xfail(reason=why, strict=True, raises=pytest.fail.Exception) for why in reasons[:1]]
        if config.pluginmanager.hasplugin("xdist"):  # `--dist loadgroup` then keeps a case in one process
            marks.append(pytest.mark.xdist_group(key))
        yield layer, check, marks


def _label(layer: Any) -> str:
    """The name of a layer in ids: of its class, also within a `functools.partial`."""
    if isinstance(layer, str):
        return layer.rpartition(":")[2]
    layer = getattr(layer, "func", layer)
    return getattr(layer, "__name__", type(layer).__name__)


def _numbered(label: str) -> Iterator[str]:
    """The label, and the same with a number, for where that is taken."""
    return (label if number == 1 else f"{label}-{number}" for number in itertools.count(1))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Before any test runs, fork the process that judges."""
    judge = session.config.stash[_JUDGE]
    is_worker = hasattr(session.config, "workerinput")
    alone = getattr(session.config.option, "dist", "no") == "no" and not is_worker
    if (alone or is_worker) and not session.config.option.collectonly and any(map(_check_of, session.items)):
        judge.start()
        try:
            judge.require_importable(session.config.getoption("rnn_layer") if alone else ())
        except InputError as error:  # once, not for each check of the layer
            raise pytest.UsageError(f"--rnn-layer: {error}") from None
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Record the result of a check as properties, for JUnit and other reports. Fail a test that calls no check."""
    check = _check_of(item)
    try:
        result = yield
        if check and not check.called:
            pytest.fail(
                f"{item.name}: never calls check, so that nothing is judged; expected check(layer)", pytrace=False
            )
        return result
    finally:
        if check:
            item.user_properties += [(f"{PROPERTY}{name}", value) for name, value in check.properties.items() if value]


def _check_of(item: pytest.Item) -> Check | None:
    if isinstance(item, LayerItem):
        return item.check
    given = getattr(item, "callspec", None)
    found = given.params.get("check") if given else None
    return found if isinstance(found, Check) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each layer and case; on GitHub, an annotation for each check that fails."""
    conclusions: dict[str, tuple[str, int]] = {}
    for outcome in ("passed", "failed", "xfailed", "xpassed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            told = dict(getattr(report, "user_properties", ()))
            if conclusion := told.get(f"{PROPERTY}conclusion"):
                case = told[f"{PROPERTY}case"]
                conclusions[case] = conclusion, conclusions.get(case, ("", 0))[1] + 1
            if outcome == "failed" and f"{PROPERTY}case" in told and os.environ.get("GITHUB_ACTIONS") == "true":
                terminalreporter.write_line(_annotation(report, told.get(f"{PROPERTY}message", report.longreprtext)))
    for case, (conclusion, count) in conclusions.items():
        name = case.rpartition(" ")[2]
        terminalreporter.write_line(f"rnn-parity: {conclusion} ({name}, {count} {'check' if count == 1 else 'checks'})")


def _annotation(report: pytest.TestReport, message: str) -> str:
    """The workflow command of GitHub that puts the failure beside the line of the test."""
    path, line, _ = report.location
    where = f"file={_escape(path, ',:')},line={line + 1}," if line is not None else ""
    title = _escape(report.nodeid.rpartition("::")[2], ",:")
    return f"::error {where}title={title}::{_escape(message)}"


def _escape(text: str, more: str = "") -> str:
    return "".join(f"%{ord(letter):02X}" if letter in "%\r\n" + more else letter for letter in text)
