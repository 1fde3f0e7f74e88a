"""What a GPU says and gives, kept as it is, so that tests without one can hold the code to it.

    python workflow/gpu_fixtures.py NAME DEVICE FOLDER

Called by gpu_reference.py, a process for each name, with the sources on PYTHONPATH. Writes FOLDER/NAME.json or NAME.pt.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from rnn_parity.layers.fused import StackingGRU
from rnn_parity.layers.settings import Settings, set_tf32
from rnn_parity.layers.stepwise import StackingGRUCellLoop

T2VEC = {"input_size": 256, "hidden_size": 256, "num_layers": 3, "dropout": 0.2}
FEW = 4096
ARTICLE = {"input_size": 5, "hidden_size": 10, "num_layers": 3, "dropout": 0.1}


def machine(device: str, folder: Path) -> Any:
    """The driver, the device and every switch of torch as it comes."""
    try:
        said = subprocess.run(["nvidia-smi", "-q"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        said = f"{type(error).__name__}: {error}"
    (folder / "nvidia-smi.txt").write_text(said)
    of_device = {}
    if device == "cuda":
        of_device = {
            "properties": str(torch.cuda.get_device_properties(0)),
            "architectures": torch.cuda.get_arch_list(),
        }
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if device == "cuda" else None,
        "build": torch.__config__.show(),
        "settings": {name: str(value) for name, value in Settings.read().values.items()},
        **of_device,
    }


def article(device: str, folder: Path) -> Any:
    """The article's experiment: are loop and `nn.GRU` bit-equal in training under one seed, with and without cuDNN?"""
    found = {}
    set_tf32(False)
    for steps in (1, 10):
        for cudnn in (True, False):
            with torch.backends.cudnn.flags(enabled=cudnn, allow_tf32=False):
                torch.manual_seed(1215)
                loop, fused = StackingGRUCellLoop(**ARTICLE).to(device), StackingGRU(**ARTICLE).to(device)
                for layer, cell in enumerate(loop.cell.grus):
                    for name, value in cell.named_parameters():
                        getattr(fused.gru, f"{name}_l{layer}").data.copy_(value)
                input, h0 = torch.randn(steps, 7, 5, device=device), torch.randn(3, 7, 10, device=device)
                results = []
                for layer in (loop, fused):
                    torch.manual_seed(1215)
                    results.append(layer(input, h0))
            far = [(ours - theirs).abs().max().item() for ours, theirs in zip(*results, strict=True)]
            found[f"T {steps}, cudnn {cudnn}"] = {"output": far[0], "hn": far[1]}
    return found


@torch.no_grad()
def functions(device: str, folder: Path) -> Any:
    """How far σ, tanh and a product of float32 are off, in `nn.GRU`, `nn.LSTM` and by themselves: relative errors.

    By weights and states with which a layer gives back one of them: `nn.LSTM` with gates that are open or shut.
    """
    set_tf32(False)
    x = torch.linspace(-8, 8, 1024, dtype=torch.float64).float()
    x = x[x != 0]
    found: dict[str, Any] = {
        f"torch.{of.__name__}": _off(of(x.to(device)), of(x.double())) for of in (torch.sigmoid, torch.tanh)
    }
    for cudnn, size in itertools.product((True, False), (8, 16, 64, 128, 136, 192, 200, 256, 512)):
        with torch.backends.cudnn.flags(enabled=cudnn, allow_tf32=False):
            for name, (kind, opened, read, truth) in _SHOWN.items():
                layer = kind(1, size).to(device)
                weights = dict(layer.named_parameters())
                for parameter in weights.values():
                    parameter.zero_()
                for row, (weight, bias) in enumerate(opened):
                    weights["weight_ih_l0"][row * size : (row + 1) * size] = weight
                    weights["bias_ih_l0"][row * size : (row + 1) * size] = bias
                given = x.to(device)[None, :, None]
                states = [torch.full((1, len(x), size), state, device=device) for state in read]
                if name == "nn.LSTM tanh of the cell state":
                    states[1] = given.expand(1, -1, size).contiguous()
                output, _ = layer(given, states[0] if kind is nn.GRU else tuple(states))
                found[f"{name}, H {size}, cudnn {cudnn}"] = _off(output[0], truth(x.double())[:, None])
                if cudnn and size in (64, 256):
                    errors = output[0, :, 0].double().cpu() / truth(x.double()) - 1
                    found[f"{name}, H {size}, by x"] = [[float(f"{v:.4g}") for v in row] for row in (x, errors)]
            layer = nn.GRU(size, size).to(device)
            for name, parameter in layer.named_parameters():
                if name != "weight_ih_l0":
                    parameter.zero_()
            layer.bias_ih_l0[size : 2 * size] = -100.0  # z = 0
            input = 1e-3 * torch.randn(1, 512, size, device=device)
            right = torch.tanh(input[0].double() @ layer.weight_ih_l0[2 * size :].double().T)
            layer.weight_ih_l0[: 2 * size] = 0
            output, _ = layer(input)
            found[f"nn.GRU product of small numbers, H {size}, cudnn {cudnn}"] = _off(output[0], right)
    return found


def _off(value: Tensor, truth: Tensor) -> dict[str, float]:
    error = ((value.double().cpu() - truth.cpu()) / truth.cpu()).flatten()
    norm = (value.double().cpu() - truth.cpu()).norm() / truth.cpu().expand(value.shape).norm()
    return {"max": error.abs().max().item(), "rms": error.square().mean().sqrt().item(), "norm": norm.item()}


_OPEN, _SHUT, _READ, _NOTHING = (0.0, 100.0), (0.0, -100.0), (1.0, 0.0), (0.0, 0.0)
_SHOWN: dict[str, Any] = {  # weight and bias of every gate, the states, and what then comes out
    "nn.GRU σ of z": (nn.GRU, (_NOTHING, _READ, _NOTHING), (1.0,), torch.sigmoid),
    "nn.GRU tanh of n": (nn.GRU, (_NOTHING, _SHUT, _READ), (0.0,), torch.tanh),
    "nn.LSTM σ of o": (nn.LSTM, (_SHUT, _OPEN, _NOTHING, _READ), (0.0, 30.0), torch.sigmoid),
    "nn.LSTM tanh of the cell state": (nn.LSTM, (_SHUT, _OPEN, _NOTHING, _OPEN), (0.0, 0.0), torch.tanh),
}


def dropout(device: str, folder: Path) -> Any:
    """By dtype, how entries 4 to 7 of every eight of a mask correlate with entries 0 to 3 of the next: docs/gpu.md."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = torch.ones(64, 256, dtype=dtype, device=device)
        before, after = (nn.functional.dropout(x, 0.5).float().cpu().view(-1, 8) for _ in range(2))
        pairs = torch.stack([before[:, 4:].flatten(), after[:, :4].flatten()])
        found[str(dtype)] = torch.corrcoef(pairs)[0, 1].item()
    return found


def messages(device: str, folder: Path) -> Any:
    """What is said where something is refused: type and text of each error, and the warnings before it."""

    def not_contiguous() -> None:
        nn.GRU(5, 6, 2).to(device)(torch.randn(4, 5, device=device), torch.randn(2, 3, 6, device=device)[:, 0])

    def backward_in_eval() -> None:
        layer = nn.GRU(5, 6, 2).to(device).eval()
        layer(torch.randn(4, 3, 5, device=device, requires_grad=True))[0].sum().backward()

    def double_backward() -> None:
        input = torch.randn(4, 3, 5, device=device, requires_grad=True)
        (once,) = torch.autograd.grad(nn.GRU(5, 6).to(device)(input)[0].sum(), input, create_graph=True)
        once.sum().backward()

    def too_much_memory() -> None:
        torch.empty(2**46, device=device)

    def half_weights() -> None:
        nn.GRU(5, 6, 2).to(device, torch.bfloat16)(torch.randn(4, 3, 5, device=device, dtype=torch.bfloat16))

    def index_out_of_range() -> None:  # last: the device is lost after it
        table = torch.randn(4, 3, device=device)
        table[torch.tensor([9], device=device)].sum().item()

    tried: list[Callable[[], None]] = [not_contiguous, backward_in_eval, double_backward, too_much_memory, half_weights]
    return {attempt.__name__: _said(attempt) for attempt in [*tried, index_out_of_range]}


def _said(attempt: Callable[[], None]) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            attempt()
            error = None
        except Exception as raised:
            error = {"type": type(raised).__name__, "text": str(raised)}
    return {"error": error, "warnings": [str(warning.message) for warning in warned]}


class Seen(TorchDispatchMode):
    """Keeps the names of all operators, and what goes into a fused layer and comes out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []
        self.fused: list[Any] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run it."""
        before = tree_map_only(torch.Tensor, _told, (args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        self.operators.append(str(func))
        if "_cudnn_rnn" in str(func) and "flatten" not in str(func):
            self.fused.append(
                {"operator": str(func), "arguments": before, "result": tree_map_only(torch.Tensor, _told, result)}
            )
        return result


def _told(tensor: Tensor) -> Any:
    """A tensor of few numbers; of many, as cuDNN's own state has, what tells it from others."""
    kept = tensor.detach().cpu().clone()
    if kept.numel() <= FEW:
        return kept
    digest = hashlib.sha256(kept.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
    return {"shape": tuple(kept.shape), "dtype": str(kept.dtype), "sha256": digest}


def masks(device: str, folder: Path) -> None:
    """Outputs, gradients and dropout states of small layers under fixed seeds: L 1–3, D 1–2, packed and not."""
    kept = {}
    for kind in (nn.GRU, nn.LSTM):
        for layers in (1, 2, 3):
            for directions in (1, 2):
                for packed in (False, True):
                    torch.manual_seed(0)
                    dropout = 0.5 if layers > 1 else 0.0
                    module = kind(5, 8, layers, dropout=dropout, bidirectional=directions == 2).to(device)
                    input: Any = torch.randn(4, 3, 5, device=device)
                    given = pack_padded_sequence(input, [4, 3, 1]) if packed else input
                    torch.manual_seed(1)
                    with Seen() as seen:
                        output, _ = module(given)
                        (output.data if packed else output).sum().backward()
                    kept[f"{kind.__name__} L {layers} D {directions} packed {packed}"] = {
                        "operators": seen.operators,
                        "fused": seen.fused,
                        "parameters": {name: p.detach().cpu() for name, p in module.named_parameters()},
                        "gradients": {
                            name: p.grad.cpu() for name, p in module.named_parameters() if p.grad is not None
                        },
                        "output": (output.data if packed else output).detach().cpu(),
                    }
    torch.save(kept, folder / "masks.pt")


def profile(device: str, folder: Path) -> Any:
    """The profiler's events of one training step of the loop and of `nn.GRU` at t2vec's size."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else []
    found = {}
    for kind in (StackingGRUCellLoop, StackingGRU):
        step = _step(kind, device)
        step()
        with torch.profiler.profile(activities=activities) as seen:
            step()
        keys = ("name", "device_type", "self_cpu_time_total", "self_device_time_total", "count")
        found[kind.__name__] = [{key: str(getattr(event, key, None)) for key in keys} for event in seen.events()][
            :5_000
        ]
    return found


def memory(device: str, folder: Path) -> Any:
    """Statistics of the allocator around one training step."""
    found: dict[str, Any] = {}
    for kind in (StackingGRUCellLoop, StackingGRU):
        step = _step(kind, device)
        step()
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_stats()
            step()
            torch.cuda.synchronize()
            found[kind.__name__] = {"before": before, "after": torch.cuda.memory_stats()}
    return found


def clocks(device: str, folder: Path) -> Any:
    """Seconds of one call of loop and `nn.GRU` at t2vec's size, by this project's clock and by others, in turn."""
    from torch.utils.benchmark import Timer

    from rnn_parity.timing.calls import Calls
    from rnn_parity.timing.rounds import Contender, run_rounds

    set_tf32(False)
    found: dict[str, Any] = {}
    for kind in (StackingGRUCellLoop, StackingGRU):
        layer = kind(**T2VEC).to(device).eval()
        input = torch.randn(30 if device == "cuda" else 2, 128, 256, device=device)
        h0 = torch.randn(3, 128, 256, device=device)

        def call(_: Any = None, layer=layer, input=input, h0=h0) -> Any:
            with torch.no_grad():
                return layer(input, h0)

        of_kind = found.setdefault(kind.__name__, {"ours": [], "ours, between events": [], "blocked_autorange": []})
        for turn in range(3):
            pair = [Contender(name, Calls(call)) for name in ("one", "control")]
            run_rounds(pair, device, random.Random(turn), 1e-9, 10, 0.5, 0.95)
            of_kind["ours"].append(statistics.median(pair[0].seconds))
            of_kind["ours, between events"] += [statistics.median(pair[0].device_seconds)] if device == "cuda" else []
            timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
            of_kind["blocked_autorange"].append(timer.blocked_autorange(min_run_time=0.4).median)
            if device == "cuda":
                from triton.testing import do_bench

                milliseconds = do_bench(call, warmup=100, rep=400, return_mode="median")
                of_kind.setdefault("triton do_bench", []).append(1e-3 * milliseconds)
    return found


def _step(kind: Any, device: str) -> Callable[[], None]:
    layer = kind(**T2VEC).to(device)
    input = torch.randn(30 if device == "cuda" else 2, 128, 256, device=device)
    h0 = torch.randn(3, 128, 256, device=device)
    return lambda: layer(input, h0)[0].sum().backward()


def main() -> None:
    """Capture one of them."""
    name, device, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        one.__name__: one for one in (machine, article, functions, dropout, messages, masks, profile, memory, clocks)
    }[name](device, folder)
    if found is not None:
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
