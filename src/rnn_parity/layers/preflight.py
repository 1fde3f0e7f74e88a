"""Whether torch can compute on the GPU of this machine: tried, before anything is asked of a layer.

`python -m rnn_parity.layers.preflight` prints the answer as JSON, for those who import no torch.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import torch
from torch import nn

MAX_SECONDS = 180.0
"""A GPU that has not answered by then is not used. Its first use loads libraries, from a cold disk for minutes."""

_CURES = {
    "too old": "update the driver, or install a torch that was built for it",
    "insufficient for": "update the driver, or install a torch that was built for it",
    "no kernel image": "install a torch that was built for this GPU",
    "not compatible with": "install a torch that was built for this GPU",
    "busy or unavailable": "another process uses it in exclusive mode: end it, or set the compute mode to default",
    "out of memory": "another process uses its memory",
    "no cuda gpus": "in a container pass it on: docker run --gpus all, apptainer exec --nv",
    "no nvidia driver": "install its driver; in a container pass it on: docker run --gpus all, apptainer exec --nv",
    "no cuda-capable": "in a container pass it on: docker run --gpus all, apptainer exec --nv",
}


def preflight() -> dict[str, Any]:
    """`major`, the compute capability's first number, and `why`, in words what keeps torch from computing.

    One of them is None: what cannot multiply, or run `nn.GRU` and `nn.LSTM` forward and backward, is no GPU to use.
    """
    step = "is asked for"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # torch warns of a GPU that it has no kernels for
            torch.cuda.init()
            major, _ = torch.cuda.get_device_capability()
        step = "allocates memory"
        square = torch.eye(512, device="cuda")
        step = "multiplies"
        if not torch.equal((square @ (2 * square)).cpu(), 2 * torch.eye(512)):
            raise RuntimeError("the product is wrong")
        for kind in (nn.GRU, nn.LSTM):
            step = f"runs nn.{kind.__name__}"
            layer = kind(8, 8, 2).cuda()
            output, _ = layer(torch.ones(3, 4, 8, device="cuda"))
            output.sum().backward()
            gradients = [parameter.grad for parameter in layer.parameters()]
            if not all(gradient is not None and gradient.isfinite().all() for gradient in gradients):
                raise RuntimeError("its gradients are not finite")
        torch.cuda.synchronize()
    except Exception as error:  # whatever it is, it is none of a layer's
        text = " ".join(str(error).split())[:300] or type(error).__name__
        cures = [cure for words, cure in _CURES.items() if words in text.lower()]
        if "CUDA_VISIBLE_DEVICES" in os.environ and step == "is asked for":
            cures.append(f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}")
        return {"major": None, "why": "; ".join([f"the GPU fails when it {step}: {text}", *cures[:2]])}
    return {"major": major, "why": None}


if __name__ == "__main__":
    print(json.dumps(preflight()))
