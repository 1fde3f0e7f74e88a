"""A speedup while another process loads a core for half of the run, against the quiet one."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks.result import Result
from benchmarks.timing import PHASES, case_of
from rnn_parity.timing.rounds import time_case
from rnn_parity.workloads.layer import Layer

SECONDS = 4.0
SIZES = [(1, 7, 10, 3), (32, 32, 64, 1), (50, 32, 64, 3), (16, 64, 256, 1)]
_BURN = "import torch\ntorch.set_num_threads(1)\na = torch.randn(512, 512)\nwhile True: a @ a"
_SETTINGS = {"precision": 1e-9, "min_rounds": 10, "max_seconds": SECONDS, "confidence": 0.95, "exclusive": True}


def measure() -> Iterator[Result]:
    """Time each phase twice: in quiet, and with a process that multiplies matrices through its second half."""
    for case in map(case_of, SIZES):
        for phase in PHASES:
            quiet = _row(case, phase)
            burner: list[subprocess.Popen] = []
            start = threading.Timer(
                SECONDS / 2, lambda burner=burner: burner.append(subprocess.Popen([sys.executable, "-c", _BURN]))
            )
            start.start()
            try:
                loaded = _row(case, phase)
            finally:
                start.join()
                burner[0].kill()
                burner[0].wait()
            change = 100 * abs(loaded["speedup"] / quiet["speedup"] - 1)
            name = f"T {case.sequence_length} B {case.batch_size} H {case.hidden_size} L {case.num_layers} {phase}"
            note = (
                f"{quiet['speedup']:.3f} {quiet['conclusion']} → {loaded['speedup']:.3f} {loaded['conclusion']}; "
                f"others kept {quiet['other_busy_cores']:.2f} → {loaded['other_busy_cores']:.2f} cores busy"
            )
            says = loaded["conclusion"] in ("within noise", "disturbed")
            yield Result(f"change of the speedup, {name}", change, "%", None if says else 5, note=note)


def _row(case, phase: str) -> dict[str, Any]:
    rows = time_case(Layer(), case, "stacking_gru_cell", ["stacking_gru"], phases=[phase], **_SETTINGS)
    return rows[1]
