"""What devices there are is found without importing torch: another process tries the GPU, once."""

import ctypes
import importlib.machinery
import importlib.util
import json
import subprocess

import pytest
import torch

from rnn_parity.experiment import devices
from rnn_parity.experiment.devices import Cuda, find_cuda, resolve_devices
from rnn_parity.experiment.errors import InputError


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """The variable is set by what is tested, and gone after the test."""
    monkeypatch.setenv(devices.VARIABLE, "")
    monkeypatch.delenv(devices.VARIABLE)


def test_it_agrees_with_torch_on_this_machine():
    assert devices.torch_is_built_with_cuda() == (torch.version.cuda is not None)
    found = find_cuda()
    assert (found.major is not None) == torch.cuda.is_available()
    assert (found.major is None) == bool(found.why)


@pytest.mark.parametrize(
    ("line", "built"),
    [("cuda: Optional[str] = '13.0'", True), ("cuda: Optional[str] = None", False), ('cuda = "12.8"', True)],
)
def test_the_version_file_says_whether_torch_has_cuda(tmp_path, monkeypatch, line, built):
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nhip: Optional[str] = None\n")
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert devices.torch_is_built_with_cuda() is built


@pytest.mark.parametrize("cuda", [Cuda(9), Cuda(why="there is none")])
def test_a_device_of_another_name_is_not_taken_for_a_gpu(cuda):
    with pytest.raises(InputError, match="^device: holds 'gpu', expected auto, cpu or cuda$"):
        resolve_devices(["gpu"], cuda)


def a_driver(monkeypatch, tried):
    """A machine with a torch for CUDA and a driver, where trying the GPU ends in a given way."""
    asked = []

    def run(command, **settings):
        asked.append(command)
        if isinstance(tried, Exception):
            raise tried
        return tried

    monkeypatch.setattr(devices, "torch_is_built_with_cuda", lambda: True)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_the_gpu_is_tried_once_a_run(monkeypatch):
    asked = a_driver(monkeypatch, subprocess.CompletedProcess([], 0, json.dumps({"major": 9, "why": None}), ""))
    assert [find_cuda(), find_cuda()] == [Cuda(9), Cuda(9)]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("tried", "why"),
    [
        (subprocess.CompletedProcess([], 0, '{"major": null, "why": "the driver is too old"}', ""), "is too old"),
        (subprocess.CompletedProcess([], -6, "", "CUDA says\nterminate called"), "-6: terminate called"),
        (subprocess.CompletedProcess([], 1, "[]", ""), "exit code 1: no message"),
        (subprocess.TimeoutExpired([], 300), "does not answer"),
    ],
)
def test_a_driver_alone_is_no_gpu(monkeypatch, tried, why):
    a_driver(monkeypatch, tried)
    found = find_cuda()
    assert found.major is None
    assert why in found.why


def test_without_a_driver_nothing_is_started(monkeypatch):
    def absent(name):
        raise OSError("libcuda.so.1: cannot open shared object file")

    asked = a_driver(monkeypatch, None)
    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert "no CUDA driver" in find_cuda().why
    assert not asked
