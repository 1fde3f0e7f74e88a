"""A checkpoint is rewritten for the other layer: there and back bit for bit, proved, or not written at all."""

import os
import re
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from conftest import PROJECT
from rnn_parity.checkpoint import convert, stacks
from rnn_parity.checkpoint.convert import convert_checkpoint
from rnn_parity.checkpoint.files import same_bits
from rnn_parity.checkpoint.proof import NotProven
from rnn_parity.cli import app
from rnn_parity.errors import InputError
from rnn_parity.implementations.stacking_gru_cell import StackingGRUCell

V, E, H, L = 23, 6, 8, 3


def documented():
    """The code of the guide: what a reader has before the change, and after it."""
    text = (PROJECT / "docs/replacing-in-t2vec.md").read_text()
    before, after, attention = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(after.splitlines()) < 20
    scopes = []
    for decoder in (before, after):
        scope = {"nn": nn, "torch": torch, "StackingGRUCell": StackingGRUCell}
        exec(attention + decoder, scope)
        scopes.append(scope["Decoder"])
    return scopes


LOOP, FUSED = documented()


class Model(nn.Module):
    """With t2vec's key names, its shared embedding among them."""

    def __init__(self, decoder, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(V, E, padding_idx=0)
        self.encoder = nn.Module()
        self.encoder.embedding = self.embedding
        self.encoder.rnn = nn.GRU(E, H // 2, L, bidirectional=True)
        self.decoder = decoder(self.embedding, H, L, dropout)

    def forward(self, source, target):
        context, h = self.encoder.rnn(self.embedding(source))
        h = h.unflatten(0, (L, 2)).transpose(1, 2).flatten(2)
        return self.decoder(target, h, context.transpose(0, 1))[0]


def trained(decoder=LOOP, steps=3, state=None):
    """A model, the generator and their optimizers after some steps, from a checkpoint where one is given."""
    torch.manual_seed(0)
    parts = {"m0": Model(decoder), "m1": nn.Linear(H, V)}
    parts |= {f"{name}_optimizer": torch.optim.Adam(part.parameters(), 1e-2) for name, part in list(parts.items())}
    if state:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    first = state["iteration"] if state else 0
    losses = [step(parts, seed) for seed in range(first, first + steps)]
    return parts, losses


def step(parts, seed):
    generator = torch.Generator().manual_seed(seed)
    source, target = (torch.randint(1, V, (5, 4), generator=generator) for _ in range(2))
    for name in ("m0", "m1"):
        parts[f"{name}_optimizer"].zero_grad()
    logits = parts["m1"](parts["m0"](source, target))
    loss = nn.functional.cross_entropy(logits[:-1].flatten(0, 1), target[1:].flatten())
    loss.backward()
    for name in ("m0", "m1"):
        parts[f"{name}_optimizer"].step()
    return loss.item()


def checkpoint(parts, iteration=3):
    return {"iteration": iteration, "best_prec_loss": 1.25} | {name: p.state_dict() for name, p in parts.items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "in.pt"
    torch.save(checkpoint(trained()[0]), path)
    return path


def same(a, b):
    """The same types, values, bits and order, down to the last leaf."""
    if isinstance(a, torch.Tensor):
        return same_bits(a, b) and a.stride() == b.stride()
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_there_and_back_is_the_same_bit_for_bit(saved, tmp_path):
    there = convert_checkpoint(saved, tmp_path / "there.pt", "stacking_gru")
    back = convert_checkpoint(tmp_path / "there.pt", tmp_path / "back.pt", "stacking_gru_cell", prefix="decoder.rnn")
    assert there.optimizers == back.optimizers == ["m0_optimizer"]
    assert there.verdict in ("identical", "equivalent")
    old, new = torch.load(saved), torch.load(tmp_path / "back.pt")
    assert same(old, new)
    assert same(old["m0"]._metadata, new["m0"]._metadata)
    tied = [new["m0"][f"{place}embedding.weight"].data_ptr() for place in ("", "encoder.", "decoder.")]
    assert len(set(tied)) == 1
    assert not same(old, torch.load(tmp_path / "there.pt"))


def test_continued_training_is_what_uninterrupted_training_is(saved, tmp_path):
    """Weights, moments and steps: each must arrive, or the losses part by far more than rounding does."""
    convert_checkpoint(saved, tmp_path / "out.pt", "stacking_gru", optimizer="m0_optimizer")
    state = torch.load(tmp_path / "out.pt")
    _, uninterrupted = trained(steps=8)
    continued, losses = trained(FUSED, 5, state)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(uninterrupted[3:]), rtol=2e-6, atol=0)
    assert continued["m0"].decoder.rnn.weight_hh_l2.shape == (3 * H, H)
    moments = state["m0_optimizer"]["state"]
    names = [name for name, _ in continued["m0"].named_parameters()]
    swapped = names.index("decoder.rnn.weight_ih_l1"), names.index("decoder.rnn.weight_hh_l1")
    moments[swapped[0]], moments[swapped[1]] = moments[swapped[1]], moments[swapped[0]]
    _, wrong = trained(FUSED, 5, state)
    assert max(abs(a - b) / b for a, b in zip(wrong, uninterrupted[3:], strict=True)) > 1e-4


def test_moments_by_name_follow_their_names(tmp_path):
    parts, _ = trained(steps=0)
    parts["m0_optimizer"] = torch.optim.Adam(parts["m0"].named_parameters(), 1e-2)
    step(parts, 0)
    torch.save(checkpoint(parts), tmp_path / "in.pt")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", "stacking_gru")
    fused = trained(FUSED, 0)[0]["m0"]
    names = torch.load(tmp_path / "out.pt")["m0_optimizer"]["param_groups"][0]["param_names"]
    assert names == [name for name, _ in fused.named_parameters()]
    convert_checkpoint(tmp_path / "out.pt", tmp_path / "back.pt", "stacking_gru_cell", prefix="m0:decoder.rnn")
    assert same(torch.load(tmp_path / "in.pt"), torch.load(tmp_path / "back.pt"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_state_dict_alone_in_any_dtype_and_safetensors(tmp_path, dtype):
    state = {f"rnn.{name}": value.to(dtype) for name, value in StackingGRUCell(E, H, L, 0.0).state_dict().items()}
    state["steps"] = torch.arange(3)
    torch.save(state, tmp_path / "in.pt")
    done = convert_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", "stacking_gru", new_prefix="layer.gru")
    assert done.verdict in ("identical", "equivalent")
    assert torch.load(tmp_path / "out.pt").keys() >= {"layer.gru.weight_hh_l2", "steps"}
    save_file(state, tmp_path / "in.safetensors", {"step": "7"})
    convert_checkpoint(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "stacking_gru")
    convert_checkpoint(tmp_path / "out.safetensors", tmp_path / "back.safetensors", "stacking_gru_cell")
    assert (tmp_path / "back.safetensors").read_bytes() == (tmp_path / "in.safetensors").read_bytes()
    assert "rnn.weight_ih_l0" in load_file(tmp_path / "out.safetensors")


def refused(source, folder, message, to="stacking_gru", error=InputError, **options):
    out = folder / f"out{source.suffix}"
    before = sorted(folder.iterdir())
    with pytest.raises(error, match=message) as caught:
        convert_checkpoint(source, out, to, **options)
    assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before


def changed(saved, folder, change):
    """A checkpoint with something else in it."""
    content = torch.load(saved)
    change(content)
    torch.save(content, folder / "in.pt")
    return folder / "in.pt"


def widen(name):
    return lambda content: content["m0"].update({name: torch.zeros(5, 5)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["m0"].pop("decoder.rnn.grus.1.bias_hh"), "m0:decoder.rnn: it lacks decoder.rnn.grus.1.bias_hh"),
        (widen("decoder.rnn.grus.1.weight_xx"), "decoder.rnn.grus.1.weight_xx has no counterpart"),
        (widen("decoder.rnn.grus.1.weight_ih"), r"grus.1.weight_ih is \(5, 5\), expected \(24, 8\)"),
        (widen("decoder.rnn.grus.7.weight_ih"), "it lacks decoder.rnn.grus.3.weight_ih"),
        (lambda c: c["m0"].update({"decoder.rnn.grus.0.bias_ih": 3}), "bias_ih is no plain tensor"),
        (lambda c: c["m0"].update({"decoder.rnn.grus.0.bias_ih": torch.zeros(1).expand(24)}), "is no plain tensor"),
        (lambda c: c["m0"].update({"decoder.rnn.grus.0.bias_ih": torch.zeros(24).double()}), "several dtypes"),
        (lambda c: c.update(m2=OrderedDict(c["m0"])), "several stacks fit: m0:decoder.rnn, m2:decoder.rnn"),
        (lambda c: c.pop("m0"), "no stacking_gru_cell in it, expected a key grus.0.weight_ih"),
        (lambda c: c["m0_optimizer"]["param_groups"][0]["params"].pop(), "it has 38 parameters, expected the 39 of m0"),
    ],
)
def test_what_is_no_whole_stack_is_named_and_nothing_is_written(saved, tmp_path, change, message):
    refused(changed(saved, tmp_path, change), tmp_path, message, optimizer="m0_optimizer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "nn.GRU"}, "--to: holds 'nn.GRU', expected one of stacking_gru_cell, stacking_gru"),
        ({"to": "stacking_gru_cell"}, "encoder.rnn.weight_ih_l0_reverse has no counterpart"),
        ({"prefix": "decoder"}, "expected a key decoder.grus.0.weight_ih; there are stacks under m0:decoder.rnn"),
        ({"optimizer": "adam"}, "--optimizer: holds 'adam', expected one of m0_optimizer, m1_optimizer"),
        ({"optimizer": "m1_optimizer"}, "m1_optimizer: it has 2 parameters, expected the 39 of m0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(saved, tmp_path, options, message):
    refused(saved, tmp_path, message, **options)


def test_moments_of_another_shape_are_not_taken_for_this_models(saved, tmp_path):
    def swap(content):
        state = content["m0_optimizer"]["state"]
        state[0], state[1] = state[1], state[0]

    path = changed(saved, tmp_path, swap)
    refused(path, tmp_path, "m0_optimizer: exp_avg of embedding.weight is", optimizer="m0_optimizer")


def test_what_is_there_is_not_overwritten(saved, tmp_path):
    (tmp_path / "out.pt").write_text("mine")
    refused(saved, tmp_path, "out.pt: is there already")
    assert (tmp_path / "out.pt").read_text() == "mine"
    refused(saved, tmp_path, "taken|is there already", new_prefix="decoder")


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_hostile_file_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for legacy in (True, False):
        path = tmp_path / "in.pt"
        torch.save({"m0": Hostile()}, path, _use_new_zipfile_serialization=legacy)
        refused(path, tmp_path, "in.pt: refused, it holds posix.system; expected tensors and plain values only")
    torch.save(nn.GRU(2, 3), path)
    refused(path, tmp_path, "it holds torch.nn.modules.rnn.GRU")
    assert not (tmp_path / "pwned").exists()


def test_a_file_that_is_cut_short_or_damaged_is_refused(saved, tmp_path):
    whole, path = saved.read_bytes(), tmp_path / "in.pt"
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, tmp_path, "in.pt: is no whole checkpoint")
    weight = torch.load(saved)["m0"]["decoder.rnn.grus.1.weight_hh"].numpy().tobytes()
    start = whole.index(weight)
    path.write_bytes(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :])
    refused(path, tmp_path, "in.pt: is damaged, the checksum of its part .* is wrong")
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for info in old.infolist():
            packed.writestr(info.filename, old.read(info.filename))
    refused(path, tmp_path, "is compressed; expected a file of torch.save")
    cut = tmp_path / "in.safetensors"
    save_file({"a": torch.zeros(9)}, cut)
    cut.write_bytes(cut.read_bytes()[:-5])
    refused(cut, tmp_path, "in.safetensors: is no whole checkpoint")
    refused(tmp_path / "absent.pt", tmp_path, "absent.pt: cannot be read")


@pytest.mark.parametrize("fault", ["bias_hh", "weight_hh"])
def test_a_conversion_that_is_wrong_is_not_written(saved, tmp_path, monkeypatch, fault):
    """Planted: two layers' tensors exchanged. Their shapes are the same, so that only the proof can tell."""

    def exchanged(content, stack, names, prefix):
        a, b = (f"decoder.rnn.grus.{k}.{fault}" for k in (1, 2))
        return stacks.with_names(content, stack, {**names, a: names[b], b: names[a]}, prefix)

    monkeypatch.setattr(convert, "with_names", exchanged)
    refused(saved, tmp_path, f"m0.decoder.rnn.grus.1.{fault} is not what it was", error=NotProven)
    monkeypatch.setattr(convert, "prove_same", lambda *_: None)
    refused(saved, tmp_path, f"{fault}_l1 of stacking_gru is not that of stacking_gru_cell", error=NotProven)
    monkeypatch.setattr("rnn_parity.checkpoint.proof.same_bits", lambda *_: True)
    refused(saved, tmp_path, "eval, output: different, error is", error=NotProven)


def test_moments_that_moved_are_not_written(saved, tmp_path, monkeypatch):
    def moved(optimizer, names):
        state = dict(optimizer["state"])
        state[1], state[5] = state[5], state[1]
        return {**optimizer, "state": state}

    monkeypatch.setattr(convert, "with_parameter_names", moved)
    refused(saved, tmp_path, "is not what it was", error=NotProven)


def test_the_command_prints_the_verdict_and_its_exit_code_says_it(saved, tmp_path, monkeypatch):
    arguments = ["convert", str(saved), str(tmp_path / "out.pt"), "--to", "stacking_gru"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "m0:decoder.rnn: stacking_gru_cell → stacking_gru, I 6, H 8, L 3, float32" in done.output
    assert "decoder.rnn.grus.0.weight_ih → decoder.rnn.weight_ih_l0" in done.output
    assert "m0_optimizer: the moments of these 12 parameters stay theirs" in done.output
    assert re.search(r"train_matched_masks: (identical|equivalent), largest error / limit 0\.\d", done.output)

    def fail(*_):
        raise NotProven("it is not so")

    monkeypatch.setattr(convert, "prove_equivalent", fail)
    arguments[2] = str(tmp_path / "other.pt")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "not converted: it is not so" in done.output
    assert not (tmp_path / "other.pt").exists()


def test_the_guides_two_decoders_compute_the_same(saved, tmp_path):
    convert_checkpoint(saved, tmp_path / "out.pt", "stacking_gru")
    tokens = torch.randint(1, V, (2, 7, 4), generator=torch.Generator().manual_seed(1))
    outputs = []
    with warnings.catch_warnings(action="error"):
        for decoder, path in ((LOOP, saved), (FUSED, tmp_path / "out.pt")):
            model = Model(decoder)
            model.load_state_dict(torch.load(path)["m0"])
            outputs.append(model(*tokens))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)
