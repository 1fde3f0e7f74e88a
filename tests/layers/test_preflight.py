"""A GPU is tried before anything is asked of a layer; what keeps torch from using it is named with its cure."""

import pytest
import torch

from rnn_parity.layers.preflight import preflight


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (RuntimeError("The NVIDIA driver on your system is too old (found version 12020)."), "update the driver"),
        (RuntimeError("Found no NVIDIA driver on your system."), "install its driver; in a container"),
        (RuntimeError("No CUDA GPUs are available"), "docker run --gpus all"),
        (torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), "in exclusive mode"),
        (torch.AcceleratorError("CUDA error: no kernel image is available for execution"), "built for this GPU"),
        (UserWarning("Quadro with CUDA capability sm_61 is not compatible with this torch"), "built for this GPU"),
        (torch.OutOfMemoryError("CUDA out of memory"), "another process uses its memory"),
    ],
)
def test_the_reason_says_what_to_do(monkeypatch, error, cure):
    def init():
        raise error

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = preflight()
    assert found["major"] is None
    assert found["why"].startswith("the GPU fails when it is asked for: ")
    assert cure in found["why"]
    assert "CUDA_VISIBLE_DEVICES is ''" in found["why"]


@pytest.mark.parametrize(("wrong", "step"), [(False, None), (True, "multiplies: the product is wrong")])
def test_it_multiplies_and_runs_the_layers_not_only_asks_for_a_device(monkeypatch, wrong, step):
    """On a device that is the CPU under another name."""
    ran = []
    eye = torch.eye(512)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    ones = torch.ones
    monkeypatch.setattr(torch, "eye", lambda size, device=None: eye + 1 if device and wrong else eye)
    monkeypatch.setattr(torch, "ones", lambda *sizes, device=None: ones(*sizes))
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: ran.append(type(self).__name__) or self)
    found = preflight()
    assert found["major"] == (None if wrong else 9)
    assert (found["why"] is None) if step is None else step in found["why"]
    assert ran == ([] if wrong else ["GRU", "LSTM"])


@pytest.mark.cuda
def test_a_gpu_is_fit():
    assert preflight()["why"] is None
