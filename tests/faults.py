"""Layers that misbehave: no numbers, a wrong shape, hidden dropout, passes that fail."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from rnn_parity.experiment.errors import InputError
from rnn_parity.layers.stepwise import StackingGRUCell, StackingGRUCellLoop


class NotANumber(StackingGRUCellLoop):
    """One entry of the output is NaN."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output.index_fill(1, torch.tensor([0]), float("nan")), hn


class Wrong(StackingGRUCellLoop):
    """One percent too much."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output * 1.01, hn


class WrongShape(StackingGRUCellLoop):
    """hn lacks its layers."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn[-1:]


class BatchFirstStates(StackingGRUCellLoop):
    """hn is (B, L, H)."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn.transpose(0, 1)


class FlatStates(StackingGRUCellLoop):
    """With one layer hn is (B, H), which broadcasts to the right numbers."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return output, hn[-1]


class HiddenDropout(StackingGRUCellLoop):
    """Right; but the masks are made of random numbers that nobody sees, as inside a kernel."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.cell = _HiddenCell(**sizes)
        self.cell.uniform = self.uniform

    @staticmethod
    def uniform(like):
        return torch.rand_like(like)


class OtherHiddenDropout(HiddenDropout):
    """As right and as hidden, from the other end of the same numbers."""

    @staticmethod
    def uniform(like):
        return 1 - torch.rand_like(like)


class HiddenOneMask(HiddenDropout):
    """Hidden, and one mask for all steps and layers."""

    def forward(self, input, h0):
        once = torch.rand_like(h0[0])
        self.cell.uniform = lambda like: once
        return super().forward(input, h0)


class HiddenButWrong(HiddenDropout):
    """Hidden, and without the gradient of h0."""

    def forward(self, input, h0):
        return super().forward(input, h0.detach())


class Unrepeatable(HiddenDropout):
    """Its masks come from no seed."""

    @staticmethod
    def uniform(like):
        return torch.rand(like.shape, generator=UNSEEDED, dtype=like.dtype)


UNSEEDED = torch.Generator()


class _HiddenCell(StackingGRUCell):
    def forward(self, input, h0):
        hn, output = [], input
        for layer, (gru, h) in enumerate(zip(self.grus, h0.unbind(), strict=True)):
            output = gru(output, h)
            hn.append(output)
            if layer < self.num_layers - 1 and self.training:
                output = output * (self.uniform(output) >= self.dropout) / (1 - self.dropout)
        return output, torch.stack(hn)


class WrongInInference(nn.GRU):
    """One percent too much where no gradient is asked for."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        return (output if torch.is_grad_enabled() else 1.01 * output), hn


class Unsupported(nn.GRU):
    """Refuses its backward pass as cuDNN does in eval mode."""

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        if output.requires_grad and not self.training:
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


class TellThreads(StackingGRUCellLoop):
    """Fails, and says for how many threads its process was asked to reckon with."""

    def forward(self, input, h0):
        raise ValueError(f"{os.environ['OMP_NUM_THREADS']} threads")


class Deadly(StackingGRUCellLoop):
    """Its size says how the job that computes with it dies: 8 raises what no layer may, 9 and 10 are killed."""

    def forward(self, input, h0):
        if h0.shape[-1] == 8:
            raise InputError("cannot go <b>on</b>")
        if h0.shape[-1] in (9, 10):
            os.kill(os.getppid(), signal.SIGTERM if h0.shape[-1] == 9 else signal.SIGKILL)
            signal.pause()  # until the job takes this process with it
        return super().forward(input, h0)


class EndsProcess(StackingGRUCellLoop):
    """With a width of 8 it ends the process in the way that its name says."""

    widths = (8,)

    def forward(self, input, h0):
        if h0.shape[-1] in self.widths:
            self.end()
        return super().forward(input, h0)


class Exits(EndsProcess):
    def end(self):
        sys.exit("enough")


class ExitsInThread(StackingGRUCellLoop):
    """Right, and the end of its process where another thread than the first calls it."""

    def forward(self, input, h0):
        if threading.current_thread() is not threading.main_thread():
            os._exit(7)
        return super().forward(input, h0)


class ExitsInLife(Exits):
    widths = (6,)


class ExitsAtOnce(EndsProcess):
    def end(self):
        os._exit(0)


class Segfaults(EndsProcess):
    def end(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class Killed(EndsProcess):
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)


class NeverReturns(EndsProcess):
    def end(self):
        signal.pause()


class LosesDevice(EndsProcess):
    def end(self):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


class NotSupported(EndsProcess):
    def end(self):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.")


class Waiting(StackingGRUCellLoop):
    """Waits in its second size, and for that until there is somebody who writes to the pipe beside it."""

    def forward(self, input, h0):
        pipe = Path(__file__).with_name("pipe")
        if h0.shape[-1] == 9 and pipe.is_fifo():
            pipe.read_text()
        return super().forward(input, h0)


class Stamped(StackingGRUCellLoop):
    """Writes down, in the current folder, which process calls it and when."""

    def forward(self, input, h0):
        with Path("calls.csv").open("a") as calls:
            calls.write(f"{os.getpid()},{time.monotonic()}\n")
        return super().forward(input, h0)


class OnCluster(StackingGRUCellLoop):
    """While there is a file `trouble`, its size says with what: 8, 9 and 10 wait, 9 with 2 GiB of memory.

    A job in which it waits leaves a file `waits-JOB`.
    """

    def forward(self, input, h0):
        troubled = Path("trouble").exists() and h0.shape[-1] in (8, 9, 10)
        taken = torch.ones(2**29) if troubled and h0.shape[-1] == 9 else None
        if troubled:
            Path(f"waits-{os.environ.get('SLURM_JOB_ID')}").touch()
        while troubled and Path("trouble").exists():
            time.sleep(0.1)
        del taken
        return super().forward(input, h0)


def refuse_as_cudnn_does(monkeypatch):
    """Let every `nn.GRU` in eval mode refuse its backward pass, unless cuDNN is off."""
    right = nn.GRU.forward

    def forward(self, *given):
        output, hn = right(self, *given)
        if torch.backends.cudnn.enabled and not self.training and hn.requires_grad:
            hn.register_hook(_refuse)
            (output.data if isinstance(output, PackedSequence) else output).register_hook(_refuse)
        return output, hn

    monkeypatch.setattr(nn.GRU, "forward", forward)


def _refuse(gradient):
    raise RuntimeError("cudnn RNN backward can only be called in training mode")


class SegfaultsAtOnce(Segfaults):
    widths = range(1000)


class ExitsEverywhere(Exits):
    widths = range(1000)


class Interrupts(EndsProcess):
    def end(self):
        raise KeyboardInterrupt


class NeverReturnsInLife(NeverReturns):
    widths = (6,)


class SegfaultsUnderVmap(StackingGRUCellLoop):
    """A transform of `torch.func` crashes the process."""

    def forward(self, input, h0):
        if torch._C._functorch.is_batchedtensor(input):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().forward(input, h0)


class LeavesThread(StackingGRUCellLoop):
    """Right, but each call leaves a thread behind that never ends, and prints."""

    def forward(self, input, h0):
        threading.Thread(target=threading.Event().wait).start()
        print("a thread is left behind")
        return super().forward(input, h0)


class RightOnce(StackingGRUCellLoop):
    """Right when it is called first, and one percent too much from then on."""

    called = False

    def forward(self, input, h0):
        output, hn = super().forward(input, h0)
        factor, self.called = 1.01 if self.called else 1.0, True
        return output * factor, hn
