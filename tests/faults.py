"""Wrong layers, each with one planted fault, and one that hides its dropout: what the check must tell apart."""

import torch
from torch import nn
from torch.nn import functional as F

from rnn_parity.implementations.stacking_gru_cell import StackingGRUCell, StackingGRUCellLoop


class WrongState(StackingGRUCellLoop):
    """The first layer starts from another state than the one given."""

    def forward(self, input, h0):
        return super().forward(input, h0.flip(0))


class DetachedState(StackingGRUCellLoop):
    """Right forward; no gradient reaches h0."""

    def forward(self, input, h0):
        return super().forward(input, h0.detach())


class TruncatedGradient(StackingGRUCellLoop):
    """Right forward; the gradient through time is cut in the middle of the sequence."""

    def forward(self, input, h0):
        output, h = [], h0
        for index, step in enumerate(input.unbind()):
            step_output, h = self.cell(step, h.detach() if index == len(input) // 2 else h)
            output.append(step_output)
        return torch.stack(output), h


class WrongBiasGradient(StackingGRUCellLoop):
    """Right forward; the gradient of one bias is that of another: b_hn is used outside the reset product's gradient."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.cell.grus[0].bias_hh.register_hook(lambda gradient: gradient.flip(0))


class NoDropout(StackingGRUCellLoop):
    """Dropout never acts."""

    def __init__(self, **sizes):
        super().__init__(**(sizes | {"dropout": 0.0}))


class DropoutAfterLast(StackingGRUCellLoop):
    """Dropout acts on the output as well."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return F.dropout(output, self.cell.dropout, self.training), hn


class UnscaledDropout(StackingGRUCellLoop):
    """What is kept is not scaled by 1 / (1 − p)."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.cell = _UnscaledCell(**sizes)


class _UnscaledCell(StackingGRUCell):
    def forward(self, input, h0):
        hn, output = [], input
        for layer, (gru, h) in enumerate(zip(self.grus, h0.unbind(), strict=True)):
            output = gru(output, h)
            hn.append(output)
            if layer < self.num_layers - 1:
                output = F.dropout(output, self.dropout, self.training) * (1 - self.dropout * self.training)
        return output, torch.stack(hn)


class OneMaskForAllSteps(StackingGRUCellLoop):
    """Each gap draws one mask and uses it at every step."""

    def forward(self, input, h0):
        cell, sequence, hn = self.cell, input, []
        for layer, gru in enumerate(cell.grus):
            states, h = [], h0[layer]
            for step in sequence.unbind():
                h = gru(step, h)
                states.append(h)
            hn.append(h)
            sequence = torch.stack(states)
            if layer < cell.num_layers - 1:
                sequence = sequence * F.dropout(torch.ones_like(sequence[0]), cell.dropout, self.training)
        return sequence, torch.stack(hn)


class LowPrecisionState(StackingGRUCellLoop):
    """The state goes through bfloat16 between two steps."""

    def forward(self, input, h0):
        output, h = [], h0
        for step in input.unbind():
            step_output, h = self.cell(step, h.bfloat16().to(h.dtype))
            output.append(step_output)
        return torch.stack(output), h


class NotANumber(StackingGRUCellLoop):
    """One entry of the output is NaN."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output.index_fill(1, torch.tensor([0]), float("nan")), hn


class WrongShape(StackingGRUCellLoop):
    """hn lacks its layers."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn[-1:]


class HiddenDropout(StackingGRUCellLoop):
    """Right; but the masks are made of random numbers that nobody sees, as inside a kernel."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.cell = _HiddenCell(**sizes)


class _HiddenCell(StackingGRUCell):
    def forward(self, input, h0):
        hn, output = [], input
        for layer, (gru, h) in enumerate(zip(self.grus, h0.unbind(), strict=True)):
            output = gru(output, h)
            hn.append(output)
            if layer < self.num_layers - 1 and self.training:
                output = output * (torch.rand_like(output) >= self.dropout) / (1 - self.dropout)
        return output, torch.stack(hn)


class Unsupported(nn.GRU):
    """Refuses its backward pass as cuDNN does in eval mode."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        if not self.training:
            output.register_hook(self._refuse)
        return output, hn

    @staticmethod
    def _refuse(gradient):
        raise RuntimeError("cudnn RNN backward can only be called in training mode")


class OutOfMemory(nn.GRU):
    """Asks for more memory than there is."""

    def forward(self, input, h0):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


class Crash(nn.GRU):
    """Fails for a reason of its own."""

    def forward(self, input, h0):
        raise ValueError("it went\nwrong")
