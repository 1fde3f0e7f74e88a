"""A compiled layer is checked without the compiler reading the code that watches it, and the report says how it ran."""

import pytest
import torch
from torch import nn

import rnn_parity
from rnn_parity.dropout.masks import DropoutRecorder
from rnn_parity.layers.registry import adapter_of, named
from rnn_parity.layers.running import DeviceLost, LightDispatchMode, classify_exception, same


class Watching(LightDispatchMode):
    """Watches as the recorder does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_the_compiler_reads_no_code_of_a_mode():
    from torch._dynamo.testing import CompileCounter

    for mode in (Watching(), DropoutRecorder()):
        torch._dynamo.reset()
        counter = CompileCounter()
        with mode:
            torch.compile(nn.Dropout(0.5), backend=counter)(torch.ones(4, 5))
        assert counter.frame_count == 0
    torch._dynamo.reset()
    torch.compile(nn.Dropout(0.5), backend=counter)(torch.ones(4, 5))
    assert counter.frame_count == 1  # else nothing is compiled anyway
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_not_finite_is_the_same_as_itself_alone(dtype):
    nan, inf, largest, zero = torch.tensor([torch.nan, torch.inf, torch.finfo(dtype).max, 0], dtype=dtype)
    for value in (nan, inf, -inf, largest, zero):
        others = [other for other in (nan, inf, -inf, largest, -largest, zero) if repr(other) != repr(value)]
        one = torch.stack([value, zero])
        assert same(one, one.clone())
        assert not any(same(one, torch.stack([other, zero])) for other in others)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_tensors_are_the_same_in_shape_dtype_and_values(dtype):
    ones = torch.ones(2, 3, dtype=dtype)
    assert same(ones, ones.clone())
    assert same(ones[:0], ones[:0].clone())
    assert same(ones.sum(0), ones.sum(0))
    assert not same(ones, torch.zeros_like(ones))
    assert not same(ones, ones[:1])
    assert not same(ones, ones.to(torch.float64))
    assert not same(ones[:0], ones[:, :0])


def Compiled(**sizes):
    return torch.compile(nn.GRU(**sizes), backend="eager")


def test_the_report_says_that_a_layer_is_compiled_and_where_it_is_not():
    report = rnn_parity.check(
        "stacking_gru_cell", Compiled, capabilities=False, timing_seconds=0, life=False, seeds=[0]
    )
    assert report.equivalent, report.explain()
    assert report.adapted == {"Compiled": "compiled, but run uncompiled where its dropout masks are observed"}
    torch._dynamo.reset()


def test_a_compiled_layer_that_fits_is_called_as_it_is():
    with named(Compiled, "candidate") as name:
        how = adapter_of(name, "gru")
        assert (how.compiled, how == how.plain) == (True, True)


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "not judged", "out of memory: "),
        (torch.AcceleratorError("CUDA error: out of memory"), "not judged", "out of memory: "),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "not judged", "out of memory: "),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear"), "unsupported", ""),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "not judged", "the machine: "),
        (RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"), "failed", "RuntimeError: "),
        (RuntimeError("The NVIDIA driver on your system is too old (found version 12020)"), "not judged", "the mach"),
        (torch.AcceleratorError("CUDA error: no kernel image is available"), "not judged", "the machine: "),
        (torch.AcceleratorError("CUDA error: invalid configuration argument"), "failed", "AcceleratorError: "),
        (RuntimeError("Found no NVIDIA driver on your system"), "not judged", "the machine: "),
        (ModuleNotFoundError("No module named 'triton'"), "not judged", "a library is missing: "),
        (AssertionError("Torch not compiled with CUDA enabled"), "not judged", "the machine: "),
        (ValueError("the driver of the loop is missing"), "failed", "ValueError: "),
    ],
)
def test_what_the_machine_does_is_no_verdict_on_a_layer(error, verdict, reason):
    found, why = classify_exception(error)
    assert found == verdict
    assert why.startswith(reason)


def test_a_lost_device_is_no_result_of_any_layer(monkeypatch):
    with pytest.raises(DeviceLost, match="illegal memory access"):
        classify_exception(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    refused = torch.AcceleratorError("CUDA error: invalid argument")
    assert classify_exception(refused)[0] == "failed"

    def synchronize():
        raise torch.AcceleratorError("CUDA error: unknown error")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(DeviceLost):
        classify_exception(refused)
    assert classify_exception(ValueError("of its own"))[0] == "failed"


@pytest.mark.parametrize("how", ["itself", "caused", "told"])
def test_what_the_system_refuses_is_no_fault_of_a_layer(how):
    refused = PermissionError(13, "Permission denied", "/cache")
    error = {"itself": refused, "told": RuntimeError(f"BackendCompilerFailed: {refused}")}.get(
        how, RuntimeError("backend")
    )
    error.__cause__ = refused if how == "caused" else None
    assert classify_exception(error)[0] == "not judged"
    assert classify_exception(FileNotFoundError(2, "No such file", "weights"))[0] == "failed"
    assert classify_exception(RuntimeError("backend"))[0] == "failed"
