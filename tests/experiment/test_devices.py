"""What devices there are is found without importing torch."""

import ctypes
import importlib.machinery
import importlib.util

import pytest
import torch

from rnn_parity.experiment import devices


def test_it_agrees_with_torch_on_this_machine():
    assert devices.torch_is_built_with_cuda() == (torch.version.cuda is not None)
    assert (devices.cuda_compute_capability_major() is not None) == torch.cuda.is_available()


@pytest.mark.parametrize(
    ("line", "built"),
    [("cuda: Optional[str] = '13.0'", True), ("cuda: Optional[str] = None", False), ('cuda = "12.8"', True)],
)
def test_the_version_file_says_whether_torch_has_cuda(tmp_path, monkeypatch, line, built):
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nhip: Optional[str] = None\n")
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert devices.torch_is_built_with_cuda() is built


class Driver:
    """A driver of one GPU of compute capability 9."""

    def __init__(self, init_result):
        self.cuInit = lambda flags: init_result
        self.cuDeviceGet = lambda device, ordinal: 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        assert attribute == 75
        value._obj.value = 9
        return 0


@pytest.mark.parametrize(("init_result", "major"), [(0, 9), (100, None)])
def test_the_driver_is_asked_and_its_errors_mean_no_device(monkeypatch, init_result, major):
    monkeypatch.setattr(devices, "torch_is_built_with_cuda", lambda: True)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(init_result))
    assert devices.cuda_compute_capability_major() == major
