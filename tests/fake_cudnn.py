"""A cuDNN that is a real GRU or LSTM on the CPU, behind the operator that PyTorch calls on a GPU.

It draws its dropout masks out of sight, from a state of its own that every call advances and that a seeding draws anew;
it scales them by a probability that it keeps as a float32; it refuses a state that is not contiguous, and a backward
pass in eval mode, in PyTorch's words.
"""

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

_MODES = {"RNN_RELU": 0, "RNN_TANH": 1, "LSTM": 2, "GRU": 3}
_KEPT = {}
"""By the number in a call's reserve, what its backward pass needs."""
_STATE = {}
"""`dropout`: the state that lives as long as nobody seeds."""


def _stack(input, weights, states, masks, mode):
    """One layer after the other, as PyTorch computes each, with masks between."""
    hidden, last = input, []
    for layer, of_layer in enumerate(weights):
        first = [state[layer : layer + 1] for state in states]
        call = torch._VF.lstm if mode == _MODES["LSTM"] else torch._VF.gru
        given = first if len(first) > 1 else first[0]
        hidden, *after = call(hidden, given, list(of_layer), True, 1, 0.0, False, False, False)
        last.append(after)
        if masks is not None and layer < len(weights) - 1:
            hidden = hidden * masks[layer]
    return hidden, *(torch.cat(each) for each in zip(*last, strict=True))


_RIGHT = _stack


def with_half_the_gradient_of_states(*given):
    """As `_stack`, but for the gradient that its last states pass back."""
    output, *last = _RIGHT(*given)
    return output, *((state + state.detach()) / 2 for state in last)


def _forward(input, weight, stride, buffer, hx, cx, mode, size, _, layers, first, dropout, train, both, sizes, state):
    if not hx.is_contiguous():
        raise RuntimeError("rnn: hx is not contiguous")
    assert not first
    assert not both
    assert not sizes
    masks = None
    if train and dropout:
        draws = torch.Generator().manual_seed(int.from_bytes(bytes(state.tolist()), "little"))
        kept = torch.rand(layers - 1, *input.shape[:2], size, generator=draws) >= dropout
        p = torch.tensor(dropout).item()  # the descriptor keeps a float32
        masks = kept.to(input.dtype) / (1 - p if p < 1 else 1)
        state.copy_(torch.randint(0, 256, state.shape, generator=draws, dtype=torch.uint8))
    weights = [weight[at : at + stride] for at in range(0, len(weight), stride)]
    states = [hx] if cx is None else [hx, cx]
    output, hy, *cy = _stack(input, weights, states, masks, mode)
    number = len(_KEPT)
    _KEPT[number] = masks
    return output, hy, cy[0] if cy else input.new_empty(0), torch.tensor([number]), input.new_empty(0)


def _backward(input, weight, stride, _b, hx, cx, _o, d_output, d_hy, d_cy, mode, *rest):
    train, reserve = rest[5], rest[9]
    if not train:
        raise RuntimeError("cudnn RNN backward can only be called in training mode")
    found = []

    def differentiate():  # in a thread, where autograd is not below itself
        leaves = [given.detach().requires_grad_() for given in (input, hx, *([] if cx is None else [cx]), *weight)]
        states = leaves[1 : 2 if cx is None else 3]
        flat = leaves[1 + len(states) :]
        weights = [flat[at : at + stride] for at in range(0, len(flat), stride)]
        results = _stack(leaves[0], weights, states, _KEPT[reserve.item()], mode)
        wanted = [(y, dy) for y, dy in zip(results, (d_output, d_hy, d_cy), strict=False) if dy is not None]
        found.extend(torch.autograd.grad([y for y, _ in wanted], leaves, [dy for _, dy in wanted]))

    thread = threading.Thread(target=differentiate)
    thread.start()
    thread.join()
    count = 1 if cx is None else 2
    return found[0], found[1], found[2] if cx is not None else input.new_empty(0), found[1 + count :]


class _AsOnAGpu(nn.Module):
    kind: type[nn.Module]

    def __init__(self, input_size, hidden_size, num_layers, dropout=0.0):
        super().__init__()
        self.rnn = self.kind(input_size, hidden_size, num_layers, dropout=dropout)

    def forward(self, input, states=None):
        rnn = self.rnn
        rnn._update_flat_weights()
        if states is None:
            zeros = input.new_zeros(rnn.num_layers, input.shape[1], rnn.hidden_size)
            states = (zeros, zeros) if rnn.mode == "LSTM" else zeros
        hx, cx = states if isinstance(states, tuple) else (states, None)
        if "dropout" not in _STATE and self.training and rnn.dropout:  # drawn from the generator that was seeded
            _STATE["dropout"] = torch.randint(0, 256, (8,), dtype=torch.uint8)
        given = (input, rnn._flat_weights, 4, None, hx, cx, _MODES[rnn.mode], rnn.hidden_size, 0, rnn.num_layers, False)
        more = (rnn.dropout, self.training, False, [], _STATE.get("dropout"))
        output, hy, cy, *_ = torch.ops.aten._cudnn_rnn(*given, *more)
        return output, hy if cx is None else (hy, cy)


class CudnnGRU(_AsOnAGpu):
    kind = nn.GRU


class CudnnLSTM(_AsOnAGpu):
    kind = nn.LSTM


@pytest.fixture
def cudnn(monkeypatch):
    """Let the operators run on a CPU, and a seeding draw the state anew, as PyTorch does on a GPU."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_cudnn_rnn", lambda *given: _forward(*given), "CPU")  # by name: a test may plant a fault there
    library.impl("_cudnn_rnn_backward", lambda *given: _backward(*given), "CPU")
    seed = torch.random.manual_seed

    def manual_seed(number):
        _STATE.clear()
        return seed(number)

    monkeypatch.setattr(torch, "manual_seed", manual_seed)
    monkeypatch.setattr(torch.random, "manual_seed", manual_seed)
    monkeypatch.setattr(torch, "default_generator", SimpleNamespace(manual_seed=manual_seed))
    yield
    library._destroy()
    _KEPT.clear()
    _STATE.clear()
