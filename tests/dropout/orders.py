"""Stacks that draw their dropout masks in many orders, right and wrong."""

import itertools
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from rnn_parity.trust.right import WrittenOut

ORDERS = tuple(itertools.permutations(range(4)))


class Drawn(WrittenOut):
    """Draws all masks at the start, in an order and in pieces that the test sets, and keeps them."""

    axes, pieces = ORDERS[0], 1
    masks: torch.Tensor

    def forward(self, input, states):
        h = states if isinstance(states, torch.Tensor) else states[0]
        shape = self.drawn_shape(len(h), len(input), *h.shape[1:])
        self.masks = torch.ones(shape, dtype=input.dtype)
        if self.training and self.dropout:
            self.masks = self.draw(shape)
        return super().forward(input, states)

    def drawn_shape(self, layers, *sizes):
        return layers - 1, *sizes

    def draw(self, shape):
        sizes = [shape[axis] for axis in self.axes]
        flat = torch.ones(shape).flatten().to(self.weight_hh_l0.dtype)
        drawn = [F.dropout(piece, self.dropout) for piece in flat.tensor_split(self.pieces)]
        return torch.cat(drawn).view(sizes).permute([self.axes.index(axis) for axis in range(4)])

    def between(self, layer, sequence):
        return sequence * self.masks[layer]


class DrawnForEveryLayer(Drawn):
    """Right: draws for its last layer too, and throws that away."""

    def drawn_shape(self, layers, *sizes):
        return layers, *sizes


class AlsoAfterLast(DrawnForEveryLayer):
    """Wrong: applies that too."""

    def result(self, sequence, last):
        return sequence * self.masks[-1], last


class TakenFromTheEnd(Drawn):
    """Right, in an order that is none of the 24: the last mask drawn is the first one used."""

    def between(self, layer, sequence):
        return sequence * self.masks[-1 - layer]


class Chunked(Drawn):
    """Right, in an order that is none of the 24: two chunks of steps, each gap by gap."""

    def draw(self, shape):
        gaps, steps, *sizes = shape
        cut = (steps + 1) // 2
        like = torch.ones(1, dtype=self.weight_hh_l0.dtype)
        chunks = [F.dropout(like.expand(gaps, n, *sizes).contiguous(), self.dropout) for n in (cut, steps - cut)]
        return torch.cat(chunks, dim=1)


class TransposedInBackward(Drawn):
    """Wrong where T = B: the gradient passes through the mask with steps and rows exchanged."""

    def between(self, layer, sequence):
        mask, other = self.masks[layer], self.masks[layer].transpose(0, 1)
        return sequence * other + (sequence * (mask - other)).detach()


class StateDropped(WrittenOut):
    """Wrong: what is dropped is carried on as well, in every layer."""

    def step(self, x, *given):
        h, *others = super().step(x, *given)
        return F.dropout(h, self.dropout, self.training), *others

    def between(self, layer, sequence):
        return sequence


class OneTooHigh(WrittenOut):
    """Wrong: dropout behind every layer but the first, where it should be behind every layer but the last."""

    def between(self, layer, sequence):
        return super().between(layer, sequence) if layer > 0 else sequence

    def result(self, sequence, last):
        return super().between(0, sequence), last


class _Cells(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.grus = nn.ModuleList(nn.GRUCell(width, hidden_size) for width in widths)
        self.drop = nn.Dropout(dropout)

    def behind(self, layer, x):
        return self.drop(x) if layer < len(self.grus) - 1 else x


class LayerThenStep(_Cells):
    """Layer by layer, a mask (B, H) for every step."""

    def forward(self, input, h0):
        steps, hn = input.unbind(), []
        for layer, (cell, h) in enumerate(zip(self.grus, h0, strict=True)):
            outputs = []
            for x in steps:
                h = cell(x, h)
                outputs.append(self.behind(layer, h))
            steps = outputs
            hn.append(h)
        return torch.stack(steps), torch.stack(hn)


class BatchMajor(_Cells):
    """Layer by layer, with the batch first inside, a mask (B, T, H) for every gap."""

    def forward(self, input, h0):
        x, hn = input.transpose(0, 1), []
        for layer, (cell, h) in enumerate(zip(self.grus, h0, strict=True)):
            outputs = []
            for step in x.unbind(1):
                h = cell(step, h)
                outputs.append(h)
            x = self.behind(layer, self.arranged(torch.stack(outputs, 1)))
            x = x.unflatten(0, input.shape[1::-1][:2]) if x.dim() == 2 else x
            hn.append(h)
        return x.transpose(0, 1), torch.stack(hn)

    def arranged(self, x):
        return x


class BatchMajorFlat(BatchMajor):
    """A mask (B·T, H) for every gap."""

    def arranged(self, x):
        return x.flatten(0, 1)


class RowByRow(nn.GRU):
    """A mask (T, 1, H) for every row and gap."""

    def forward(self, input, h0):
        rows = [super(RowByRow, self).forward(*pair) for pair in zip(input.split(1, 1), self.rows(h0), strict=True)]
        outputs, hn = zip(*rows, strict=True)
        return torch.cat(outputs, 1), torch.cat(hn, 1)

    @staticmethod
    def rows(h0) -> Iterator[torch.Tensor]:
        return (row.contiguous() for row in h0.split(1, 1))


RIGHT = (LayerThenStep, BatchMajor, BatchMajorFlat, RowByRow)


class OneForAllStepsOfEveryLayer(nn.GRU):
    """Variational dropout, with a mask behind the last layer that nobody reads."""

    def forward(self, input, states=None):
        of_one = [F.dropout(torch.ones_like(states[0]), self.dropout, self.training) for _ in states]
        last, sequence = [], input
        for layer, mask in enumerate(of_one):
            sequence, state = torch.gru(
                sequence,
                states[[layer]],
                self._flat_weights[4 * layer : 4 * layer + 4],
                True,
                1,
                0.0,
                False,
                False,
                False,
            )
            last.append(state)
            sequence = sequence * mask if layer + 1 < len(of_one) else sequence
        return sequence, torch.cat(last)
