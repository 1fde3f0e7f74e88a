"""The variables of the environment that change what is measured."""

from __future__ import annotations

import os
import re

_FAMILIES = re.compile(
    r"(ATEN_|BLIS_|CCACHE_|CUBLAS|CUDA_|CUDNN_|DNNL_|GOMP_|KMP_|LD_PRELOAD|MALLOC_|MKL_|NVIDIA_|OMP_|ONEDNN_|OPENBLAS_|"
    r"PYTORCH_|TORCH|TRITON_)"
)
_PLACES = re.compile(r"_(DIR|HOME|PATH|ROOT|FILE|LOGS|VERSION)$")
"""Ends of names that say where something lies, or what is told: they change no number."""
_OF_SNAKEMAKE = {"MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
"""Each job gets these anew, and computes with the threads of its case."""


def environment_variables() -> dict[str, str]:
    """Name to value of every variable that is set and may change a number, a time, or what a layer can do."""
    named = {name: value for name, value in sorted(os.environ.items()) if _FAMILIES.match(name)}
    return {name: value for name, value in named.items() if name not in _OF_SNAKEMAKE and not _PLACES.search(name)}
