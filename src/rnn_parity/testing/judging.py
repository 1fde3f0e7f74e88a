"""Judging the cases of a test session, each once, in a process that is forked before the first test runs.

That process uses neither a GPU nor threads, whatever the tests do. So it can fork a process for each layer, which may
crash. It has every class that the tests define. Under pytest-xdist the workers share their results in a folder.
"""

from __future__ import annotations

import faulthandler
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rnn_parity.experiment.vocabulary import TIME_LIMIT_S

_STEPS = 20
"""A check has fewer steps, each of which may take its time limit."""


@dataclass
class Asked:
    """A layer in one case, with its options; `place` names the two among all that is asked."""

    layer: Any
    case: str
    options: Mapping[str, Any]
    bundle: Path | None
    place: str = ""


@dataclass
class Judge:
    """Holds the cases of a session and their results.

    Attributes:
        asked: by key, all cases of the session. folder: what the workers share; None where there is one process.
    """

    folder: Path | None = None
    asked: dict[str, Asked] = field(default_factory=dict)
    _known: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _server: Any = None

    def start(self) -> None:
        """Fork the process that judges; from then on what is asked stays as it is."""
        from rnn_parity import api  # noqa: F401 imported before the fork, once for all cases
        from rnn_parity.layers.containment import Stream

        limit_s = max((asked.options.get("time_limit", TIME_LIMIT_S) for asked in self.asked.values()), default=0.0)
        requests, self._entry = os.pipe()

        def serve() -> Iterator[Mapping[str, Any]]:
            os.close(self._entry)
            faulthandler.disable()  # of a crash pytest would print its own frames
            with os.fdopen(requests) as keys:
                for key in keys:
                    yield judge(self.asked[key.rstrip("\n")])

        self._server = iter(Stream(serve, _STEPS * limit_s))
        os.close(requests)

    def require_importable(self, layers: Sequence[str]) -> None:
        """Raise `InputError` for a path that cannot be imported. If importing ends the process, the checks say so."""
        from rnn_parity.layers.containment import contained
        from rnn_parity.layers.registry import load_factory

        list(contained(lambda layer: bool(load_factory(layer)), layers, TIME_LIMIT_S))

    def result(self, key: str) -> Mapping[str, Any]:
        """The results of a case, which is judged when they are first asked for."""
        if key not in self._known:
            self._known[key] = self._ask(key) if self.folder is None else self._shared(key, self.folder)
        return self._known[key]

    def _shared(self, key: str, folder: Path) -> Mapping[str, Any]:
        from filelock import FileLock

        found = folder / f"{list(self.asked).index(key)}.json"
        with FileLock(found.with_suffix(".lock")):
            if not found.exists():
                found.write_text(json.dumps(self._ask(key)), encoding="utf-8")
        return json.loads(found.read_text(encoding="utf-8"))

    def _ask(self, key: str) -> Mapping[str, Any]:
        from rnn_parity.layers.containment import Ended

        if self._server is None:
            self.start()
        try:
            os.write(self._entry, f"{key}\n".encode())
            found = next(self._server)
        except BaseException:  # the next case starts another
            self.close()
            raise
        if isinstance(found, Ended):  # only where it could not fork: it has run the layer itself
            self.close()
            return {"error": found.reason}
        return found

    def close(self) -> None:
        """End the process, if there is one."""
        if self._server is not None:
            os.close(self._entry)
            self._server.close()
            self._server = None


def judge(asked: Asked) -> Mapping[str, Any]:
    """Judge a layer in one case, and return the rows and words that its checks need, in types that JSON has."""
    from rnn_parity.api import check
    from rnn_parity.experiment.errors import InputError
    from rnn_parity.findings.lives import was_cut_short

    options = {name: value for name, value in asked.options.items() if name not in ("like", "baseline")}
    try:
        report = check(
            asked.options.get("baseline"),
            asked.layer,
            like=asked.case,
            capabilities=False,
            timing_seconds=0.0,
            bundle=asked.bundle,
            **options,
        )
    except InputError as error:
        return {"error": str(error)}
    columns = ["regime", "quantity", "seed", "verdict", "reason", "ratio"]
    rows = json.loads(report.equivalence[columns].to_json(orient="records"))
    points = [] if report.life is None else json.loads(report.life.to_json(orient="records"))
    life = [
        {name: point[name] for name in ("title", "when", "quantity", "verdict", "reason", "ratio", "condition")}
        | {"cut_short": was_cut_short(point)}
        for point in points
    ]
    about = {"conclusion": report.conclusion(), "cause": report.cause, "bundle": report.bundle}
    return about | {"baseline": report.baseline, "rows": rows, "life": life}
