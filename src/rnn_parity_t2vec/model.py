"""t2vec, whose decoder's recurrent stack is any registered implementation.

Written from Li, Zhao, Cong, Jensen and Wei, "Deep Representation Learning for Trajectory Similarity Computation" (ICDE
2018, doi:10.1109/ICDE.2018.00062) and its public hyper-parameters: one embedding of the cells for both sides, a
bidirectional encoder, and a decoder that attends to the encoder's outputs (Luong et al. 2015, arXiv:1508.04025).
Parameters have the names of t2vec's checkpoints; those of the decoder's stack are the implementation's own.

Shapes: S source steps, T target steps, B batch, E embedding, H hidden, L layers, V vocabulary.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.parameters import canonical_parameters
from rnn_parity.layers.registry import build

PAD, BOS, EOS = range(3)
SPECIAL_TOKENS = 4
"""The first tokens of the vocabulary: these three, and one for what is unknown; cells come after them."""

STACK = "decoder.rnn."
"""The beginning of the names of the replaced layer's parameters; `nn.GRU`'s names follow."""

Attending = Literal["each_step", "all_steps"]
"""How a decoder attends: after every step, as t2vec is written, or once for the outputs of all steps."""


class Encoder(nn.Module):
    """A bidirectional packed GRU, each direction H/2 wide."""

    def __init__(self, embedding: nn.Embedding, case: Case) -> None:
        super().__init__()
        self.embedding = embedding
        layers, dropout = case.num_layers, case.dropout if case.num_layers > 1 else 0.0
        self.rnn = nn.GRU(case.input_size, case.hidden_size // 2, layers, dropout=dropout, bidirectional=True)

    def forward(
        self, source: Int[Tensor, "S B"], lengths: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "S B H"], Float[Tensor, "L B H"]]:
        """Outputs, zero from each sequence's end on, and of every layer the last states of both directions, joined."""
        packed = pack_padded_sequence(self.embedding(source), lengths.cpu(), enforce_sorted=False)
        output, hn = self.rnn(packed)
        context, _ = pad_packed_sequence(output, total_length=len(source))
        forward, backward = hn.unflatten(0, (-1, 2)).unbind(1)
        return context, torch.cat([forward, backward], dim=-1)


class GlobalAttention(nn.Module):
    """Luong's global attention with the general score: tanh(L2 [c; q]), c the context weighted by softmax(L1 q · C)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.L1 = nn.Linear(hidden_size, hidden_size, bias=False)
        self.L2 = nn.Linear(2 * hidden_size, hidden_size, bias=False)

    def forward(
        self, query: Float[Tensor, "T B H"], context: Float[Tensor, "S B H"], padding: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "T B H"]:
        """Attend from every step of the query to the steps of the context that are no padding."""
        keys = context.transpose(0, 1)
        scores = torch.bmm(self.L1(query).transpose(0, 1), keys.mT).masked_fill(padding[:, None], float("-inf"))
        found = torch.bmm(scores.softmax(dim=-1), keys).transpose(0, 1)
        return torch.tanh(self.L2(torch.cat([found, query], dim=-1)))


class Decoder(nn.Module):
    """Embedding, recurrent stack, attention, dropout. What attention gives is not fed back into the stack.

    So with the target known, the stack takes all steps at once, and `attending` says whether attention does.
    """

    def __init__(self, embedding: nn.Embedding, rnn: nn.Module, case: Case, attending: Attending) -> None:
        super().__init__()
        self.attending = attending
        self.embedding = embedding
        self.rnn = rnn
        self.attention = GlobalAttention(case.hidden_size)
        self.dropout = nn.Dropout(case.dropout)

    def forward(
        self,
        target: Int[Tensor, "T B"],
        h0: Float[Tensor, "L B H"],
        context: Float[Tensor, "S B H"],
        padding: Bool[Tensor, "B S"],
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "L B H"]]:
        """What the generator reads, for every step, and the states after the last; with T = 1, one free step."""
        states, hn = self.rnn(self.embedding(target), h0)
        if self.attending == "all_steps":
            return self.dropout(self.attention(states, context, padding)), hn
        steps = [self.dropout(self.attention(step, context, padding)) for step in states.split(1)]
        return torch.cat(steps), hn


class InputFeedingDecoder(Decoder):
    """The variant that reads what it attended to one step before, beside the next token.

    A step needs the one before it to be whole, so that no implementation can take the sequence at once.
    """

    def forward(self, target, h0, context, padding):
        """As `Decoder.forward`; the stack, I = E + H, is called once for every step."""
        fed, h, steps = h0.new_zeros(h0[-1:].shape), h0, []
        for x in self.embedding(target).split(1):
            states, h = self.rnn(torch.cat([x, fed], dim=-1), h)
            fed = self.dropout(self.attention(states, context, padding))
            steps.append(fed)
        return torch.cat(steps), h


class T2Vec(nn.Module):
    """Encoder and decoder, t2vec's `m0`, and its `m1`, the generator of log-probabilities over the vocabulary.

    Args:
        case: its sizes are the model's, I the embedding's. vocabulary: V.
        implementation: the decoder's recurrent stack, by name.
        attending: how the decoder attends. input_feeding: whether what it attended to is fed back.
    """

    def __init__(
        self,
        case: Case,
        vocabulary: int,
        implementation: str,
        attending: Attending = "all_steps",
        *,
        input_feeding: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, case.input_size, padding_idx=PAD)
        self.encoder = Encoder(self.embedding, case)
        rnn = build(
            implementation,
            input_size=case.input_size + (case.hidden_size if input_feeding else 0),
            hidden_size=case.hidden_size,
            num_layers=case.num_layers,
            dropout=case.dropout,
        )
        decoder = InputFeedingDecoder if input_feeding else Decoder
        self.decoder = decoder(self.embedding, rnn, case, attending)
        self.generator = nn.Sequential(nn.Linear(case.hidden_size, vocabulary), nn.LogSoftmax(dim=-1))

    def canonical_parameters(self) -> dict[str, Tensor]:
        """Every parameter once, by its own name, and in the replaced layer by nn.GRU's; the generator's last."""
        own = {name: p for name, p in self.named_parameters() if not name.startswith(STACK)}
        stack = {STACK + name: p for name, p in canonical_parameters(self.decoder.rnn).items()}
        return dict(sorted((own | stack).items(), key=lambda item: item[0].startswith("generator.")))

    def forward(
        self, source: Int[Tensor, "S B"], lengths: Int[Tensor, " B"], target: Int[Tensor, "T B"]
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "L B H"]]:
        """The decoder's output for every token of the target that it reads, and its states after the last."""
        context, h0 = self.encoder(source, lengths)
        return self.decoder(target, h0, context, source.T == PAD)


def nll_loss(log_probabilities: Float[Tensor, "T B V"], wanted: Int[Tensor, "T B"]) -> Float[Tensor, ""]:
    """Negative log-likelihood of the wanted tokens, padding left out, summed over the steps and averaged over B."""
    each = F.nll_loss(log_probabilities.flatten(0, 1), wanted.flatten(), ignore_index=PAD, reduction="none")
    return (each / wanted.shape[1]).sum()  # the sum over the whole batch may be more than float16 holds
