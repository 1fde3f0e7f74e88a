"""Layers that are right but for one thing each; every capability lacks in one of them."""

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnn_parity.trust.planting import coarse
from rnn_parity.trust.right import WrittenOut


class LeavesBiases(nn.GRU):
    def reset_parameters(self):
        for parameter in self.parameters():
            if parameter.dim() > 1 or not hasattr(self, "made"):
                nn.init.uniform_(parameter, -0.1, 0.1)
        self.made = True


class OnesForMissingH0(nn.GRU):
    def forward(self, input, h0=None):
        return super().forward(input, torch.ones(2, 3, 6).to(input) if h0 is None else h0)


class RunsOverPadding(nn.GRU):
    def forward(self, input, h0):
        if not isinstance(input, PackedSequence):
            return super().forward(input, h0)
        return input, super().forward(pad_packed_sequence(input)[0], h0)[1]


class PadsPacked(nn.GRU):
    def forward(self, input, h0):
        return super().forward(pad_packed_sequence(input)[0] if isinstance(input, PackedSequence) else input, h0)


class ReversesUnbatched(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input.flip(0) if input.dim() == 2 else input, h0)


class TransposesStates(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn.transpose(0, 1) if self.batch_first else hn


class ForwardTwice(nn.GRU):
    def __init__(self, bidirectional=False, **sizes):
        super().__init__(**sizes)
        self.twice = bidirectional

    def forward(self, input, h0):
        if not self.twice:
            return super().forward(input, h0)
        output, hn = super().forward(input, h0[:1])
        return torch.cat([output, output], -1), torch.cat([hn, hn])


class KeepsBias(nn.GRU):
    def __init__(self, bias=True, **sizes):
        super().__init__(**sizes)


class ReadsStorage(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input.as_strided(input.shape, input.new_empty(input.shape).stride()), h0)


class OneRowForNone(nn.GRU):
    def forward(self, input, h0):
        if not input.shape[1]:
            input, h0 = input.new_zeros(len(input), 1, 5), h0.new_zeros(2, 1, 6)
        return super().forward(input, h0)


class ZerosForNoSteps(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input, h0) if len(input) else (h0.new_zeros(0, 3, 6), torch.zeros_like(h0))


class DetachesState(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn.detach() + 0 * hn


class MakesFit(nn.GRU):
    def forward(self, input, h0):
        h0 = h0 if h0.shape[-1] > 1 else h0.expand(-1, -1, 6)
        return super().forward(input[..., :5].double(), h0[..., :6].double())


class RefusesAll(nn.GRU):
    def forward(self, input, h0):
        raise ValueError("not\ntoday")


class WrongInEval(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output if self.training else 2 * output.detach() - output, hn


class Once(torch.autograd.Function):
    """The identity, with a backward pass and nothing more."""

    @staticmethod
    def forward(ctx, input):
        return input.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient


class DifferentiableOnce(nn.GRU):
    def forward(self, input, h0):
        return super().forward(Once.apply(input), h0)


class UsesUpItsGraph(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        left = [1.0, 0.0]
        output.register_hook(lambda gradient: gradient * left.pop(0) if left else gradient)
        return output, hn


class NeedsInputGradient(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output if input.requires_grad else 2 * output - output.detach(), hn


class OwnGenerator(nn.GRU):
    generator = torch.Generator()

    def forward(self, input, h0):
        noise = torch.rand(input.shape, generator=self.generator, dtype=input.dtype)
        return super().forward(input * (noise if self.dropout else 1), h0)


class ReadsNumbers(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input * float(input.detach().abs().max() > 0), h0)


class TangentOfAnother(torch.autograd.Function):
    @staticmethod
    def forward(input):
        return input.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent


class WrongTangent(nn.GRU):
    def forward(self, input, h0):
        return super().forward(TangentOfAnother.apply(input), h0)


class HidesNaN(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input.nan_to_num(), h0)


class SpreadsNaN(nn.GRU):
    def forward(self, input, h0):
        return super().forward(input + 0 * input.sum(1, keepdim=True), h0)


class Overflows(WrittenOut):
    arithmetic = coarse(sigmoid=lambda x: x.exp() / (1 + x.exp()))


class SumsInAnyOrder(nn.GRU):
    def forward(self, input, h0):
        copy = torch.zeros_like(input).put_(torch.arange(input.numel()).view(input.shape), input)
        return super().forward(copy, h0)


class KeepsStateOnItself(WrittenOut):
    def carried(self, states, step, steps):
        self.state = states
        torch.linalg.inv(torch.eye(40))  # time for another thread
        return self.state


class WidensOutput(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output.to(torch.promote_types(output.dtype, torch.float32)), hn


class NarrowsUnderAutocast(nn.GRU):
    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output.bfloat16() if torch.is_autocast_enabled("cpu") else output, hn


class WrongUnderAutocast(nn.GRU):
    def forward(self, input, h0):
        return super().forward(-input if torch.is_autocast_enabled("cpu") else input, h0)


class ScaleNotSaved(nn.GRU):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.scale = 1 + torch.rand(()).item()

    def forward(self, input, h0):
        return super().forward(self.scale * input, h0)


class HoldsALambda(nn.GRU):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.change = lambda tensor: tensor


class CopiesToItself(nn.GRU):
    def __deepcopy__(self, memo):
        return self


class StaysOnTheCpu(nn.GRU):
    def forward(self, input, h0):
        return (torch.zeros(4, 3, 6), torch.zeros(2, 3, 6)) if input.is_meta else super().forward(input, h0)


class CellLoop(nn.Module):
    """Right; and not annotated, as the compiler cannot see through the checks of annotations."""

    def __init__(self, input_size, hidden_size, num_layers, dropout):
        super().__init__()
        self.grus = nn.ModuleList(nn.GRUCell(width, hidden_size) for width in (input_size, hidden_size))

    def forward(self, input, h0):
        output, states = [], list(h0.unbind())
        for step in input.unbind():
            for layer, gru in enumerate(self.grus):
                step = states[layer] = gru(step, states[layer])
            output.append(step)
        return torch.stack(output), torch.stack(states)


class OtherWhenCompiled(CellLoop):
    def forward(self, input, h0):
        return super().forward(-input if torch.compiler.is_compiling() else input, h0)


class BreaksTheGraph(CellLoop):
    def forward(self, input, h0):
        input = 1.0 * input
        torch._dynamo.graph_break()
        return super().forward(input, h0)
