"""The environment says what was measured on."""

import importlib.metadata
import os
import subprocess

from conftest import PROJECT
from rnn_parity.timing.environment import describe_environment


def test_versions_commit_machine_and_peaks(monkeypatch):
    monkeypatch.setattr("rnn_parity.timing.peaks._GEMM_SIZES", {"cpu": (64,)})
    monkeypatch.setattr("rnn_parity.timing.peaks._COPY_BYTES", {"cpu": 2**16})
    settings = [{"device": "cpu", "dtype": dtype, "tf32": False, "threads": 1} for dtype in ("float32", "bfloat16")]
    facts = describe_environment(settings)
    assert facts["torch"] == importlib.metadata.version("torch")
    assert facts["mlflow"] == importlib.metadata.version("mlflow")
    assert facts["cpu"]["cores"] == os.cpu_count()
    assert facts["cpu"]["model"]
    assert facts["gpu"] is None
    assert [(peak["device"], peak["dtype"]) for peak in facts["peaks"]] == [("cpu", "float32"), ("cpu", "bfloat16")]
    assert all(peak["gemm_flops_per_s"] > 0 and peak["copy_bytes_per_s"] > 0 for peak in facts["peaks"])
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if head.returncode == 0:
        assert facts["commit"].removesuffix("-dirty") == head.stdout.strip()
