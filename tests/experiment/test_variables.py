"""What is set around a run and changes what is measured is known; what only names a place is not taken for it."""

import pytest

from rnn_parity.experiment.variables import environment_variables

FAMILIES = ["TORCHDYNAMO_DISABLE", "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "OMP_WAIT_POLICY"]
FAMILIES += ["MKL_ENABLE_INSTRUCTIONS", "KMP_AFFINITY", "GOMP_SPINCOUNT", "CUDA_LAUNCH_BLOCKING", "CCACHE_DISABLE"]
FAMILIES += ["CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "ONEDNN_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE"]
OTHERS = ["HOME", "TORCH_HOME", "CUDA_PATH", "TORCHINDUCTOR_CACHE_DIR", "OMP_NUM_THREADS", "XOMP_A"]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch):
    for name in environment_variables():
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_variable_of_the_families_counts(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert environment_variables() == {name: "1"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_place_and_what_every_job_gets_anew_do_not(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert environment_variables() == {}
