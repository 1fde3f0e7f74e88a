"""A checkpoint is rewritten for the other layer: there and back bit for bit, proved, or not written at all."""

import errno
import os
import pickle
import re
import warnings
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from conftest import PROJECT
from rnn_parity import convert
from rnn_parity.commands.cli import app
from rnn_parity.convert import NotProven, convert_checkpoint
from rnn_parity.experiment.errors import InputError
from rnn_parity.layers.fused import StackingGRU, StackingLSTM
from rnn_parity.layers.parameters import canonical_parameters
from rnn_parity.layers.registry import build
from rnn_parity.layers.stepwise import StackingGRUCell

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
        return (a.dtype, a.stride()) == (b.dtype, b.stride()) and torch.equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_there_and_back_is_the_same_bit_for_bit(saved, tmp_path):
    there = convert_checkpoint(saved, tmp_path / "there.pt", "stacking_gru")
    back = convert_checkpoint(tmp_path / "there.pt", tmp_path / "back.pt", "stacking_gru_cell", stack="decoder.rnn")
    for lines in (there, back):
        assert lines[1:3] == ["m0_optimizer: its moments stay with their parameters", "m1_optimizer: left as it is"]
        assert re.match("checked: (identical|equivalent), largest", lines[3])
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


def with_optimizer(folder, optimizer_of):
    """A checkpoint whose one optimizer, of both models, has done a step."""
    parts = {name: part for name, part in trained(steps=0)[0].items() if name in ("m0", "m1")}
    optimizer = optimizer_of(parts["m0"], parts["m1"])
    step(parts | {"m0_optimizer": optimizer, "m1_optimizer": optimizer}, 0)
    torch.save(checkpoint(parts | {"optimizer": optimizer}), folder / "in.pt")
    return folder / "in.pt"


def named(*models):
    return chain.from_iterable(model.named_parameters() for model in models)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_of_several_models_is_followed_by_name(tmp_path, kind):
    path = with_optimizer(tmp_path, lambda *models: kind(named(*models), 1e-2))
    convert_checkpoint(path, tmp_path / "out.pt", "stacking_gru", optimizer="optimizer")
    fused = trained(FUSED, 0)[0]
    names = torch.load(tmp_path / "out.pt")["optimizer"]["param_groups"][0]["param_names"]
    assert names == [name for name, _ in named(fused["m0"], fused["m1"])]
    convert_checkpoint(tmp_path / "out.pt", tmp_path / "back.pt", "stacking_gru_cell", stack="m0:decoder.rnn")
    assert same(torch.load(path), torch.load(tmp_path / "back.pt"))


@pytest.mark.parametrize(
    "optimizer_of",
    [
        lambda m0, m1: torch.optim.Adam([{"params": [p]} for p in reversed([*m0.parameters()])]),
        lambda m0, m1: torch.optim.Adam(m1.parameters()),
        lambda m0, m1: torch.optim.Adam(named(m1)),
        lambda m0, m1: torch.optim.Adam([*named(m0), ("decoder.rnn.grus.0.weight_ih", m1.weight)]),
    ],
)
def test_an_optimizer_that_does_not_fit_is_left_as_it_is(tmp_path, optimizer_of):
    path = with_optimizer(tmp_path, optimizer_of)
    refused(
        path,
        tmp_path,
        "has not the parameters of the model that holds .*, or it has buffers",
        optimizer="optimizer",
    )
    done = convert_checkpoint(path, tmp_path / "out.pt", "stacking_gru")
    assert "optimizer: left as it is" in done
    assert same(torch.load(path)["optimizer"], torch.load(tmp_path / "out.pt")["optimizer"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_state_dict_alone_in_any_dtype_and_safetensors(tmp_path, dtype):
    state = {f"rnn.{name}": value.to(dtype) for name, value in StackingGRUCell(E, H, L, 0.0).state_dict().items()}
    state["steps"] = torch.arange(3)
    torch.save(state, tmp_path / "in.pt")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", "stacking_gru", new_prefix="layer.gru")
    assert torch.load(tmp_path / "out.pt").keys() >= {"layer.gru.weight_hh_l2", "steps"}
    save_file(state, tmp_path / "in.safetensors", {"step": "7"})
    convert_checkpoint(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "stacking_gru")
    convert_checkpoint(tmp_path / "out.safetensors", tmp_path / "back.safetensors", "stacking_gru_cell")
    assert (tmp_path / "back.safetensors").read_bytes() == (tmp_path / "in.safetensors").read_bytes()
    assert (tmp_path / "out.safetensors").read_bytes() != (tmp_path / "in.safetensors").read_bytes()


def refused(source, folder, message, to="stacking_gru", error=InputError, **options):
    before = sorted(folder.iterdir())
    with pytest.raises(error, match=message) as caught:
        convert_checkpoint(source, folder / f"out{source.suffix}", to, **options)
    assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before


def put(name, value):
    return lambda content: content["m0"].update({f"decoder.rnn.grus.{name}": value})


def as_dtype(dtype):
    return lambda c: c["m0"].update({key: value.to(dtype) for key, value in c["m0"].items() if "grus" in key})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["m0"].pop("decoder.rnn.grus.1.bias_hh"), "m0:decoder.rnn.grus: cannot be loaded .*1.bias_hh"),
        (
            lambda c: c["m0"].pop("decoder.rnn.grus.0.weight_hh"),
            "m0:decoder.rnn.grus: cannot be loaded .*0.weight_hh",
        ),
        (put("1.weight_xx", torch.zeros(5)), "Unexpected key.* .1.weight_xx"),
        (put("1.weight_ih", torch.zeros(5, 5)), "size mismatch for 1.weight_ih"),
        (put("7.weight_ih", torch.zeros(24, 8)), "Missing key.* .3.weight_hh"),
        (put("0.bias_ih", 3), "m0:decoder.rnn.grus: cannot be loaded .*AttributeError"),
        (put("0.bias_ih", torch.zeros(24).double()), "it holds float32, float64, expected one of"),
        (put("0.bias_ih", torch.zeros(24).to_sparse()), "0.bias_ih is sparse or without values, expected a dense"),
        (put("0.bias_ih", torch.zeros(24, device="meta")), "0.bias_ih is sparse or without values, expected a dense"),
        (as_dtype(torch.float8_e4m3fn), "it holds float8_e4m3fn, expected one of float64, float32, bfloat16"),
        (
            lambda c: c.update(m2=type(c["m0"])(c["m0"])),
            "several stacks fit: m0:decoder.rnn.grus, m2:decoder.rnn.grus; expected one as --from",
        ),
        (lambda c: c.pop("m0"), "no stack in it, expected a key that ends in weight_ih_l0 or 0.weight_ih or"),
        (lambda c: c["m0_optimizer"]["param_groups"][0]["params"].pop(), "m0_optimizer has not the parameters"),
        (lambda c: c["m0_optimizer"]["state"][0].update(exp_avg=torch.ones(2)), "m0_optimizer has not the parameters"),
        (
            lambda c: c["m0_optimizer"]["state"][4].update(exp_avg=torch.zeros(24, 6).to_sparse()),
            "m0_optimizer has not the parameters",
        ),
        (lambda c: c["m0"].update(other=torch.eye(2).to_sparse()), "m0_optimizer has not the parameters"),
        (lambda c: c.pop("m0_optimizer"), "--optimizer: holds 'm0_optimizer', expected m1_optimizer"),
        (lambda c: c["m0_optimizer"].update(param_groups=3), "m0_optimizer has not the parameters"),
    ],
)
def test_what_is_no_whole_stack_is_named_and_nothing_is_written(saved, tmp_path, change, message):
    content = torch.load(saved)
    change(content)
    torch.save(content, tmp_path / "in.pt")
    refused(tmp_path / "in.pt", tmp_path, message, optimizer="m0_optimizer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "nn.GRU"}, "--to: holds 'nn.GRU', expected one of stacking_gru_cell, stacking_gru, stacking_lstm_cell"),
        ({"to": "stacking_gru_cell"}, "m0:encoder.rnn: has two directions, expected one"),
        (
            {"stack": "decoder"},
            "no stack in it under decoder, .*; there are stacks under m0:encoder.rnn, m0:decoder.rnn.grus",
        ),
        (
            {"stack": "layers"},
            "no stack in it under layers, .*; there are stacks under m0:encoder.rnn, m0:decoder.rnn.grus",
        ),
        (
            {"to": "stacking_lstm", "stack": "grus"},
            "m0:decoder.rnn.grus: this is a GRU, not an LSTM; expected --to stacking_gru_cell or stacking_gru",
        ),
        ({"optimizer": "adam"}, "--optimizer: holds 'adam', expected m0_optimizer or m1_optimizer$"),
        (
            {"new_prefix": "decoder"},
            "m0:decoder: decoder.embedding.weight exists already, expected another --new-prefix",
        ),
        ({"new_prefix": "encoder.rnn"}, "m0:encoder.rnn: encoder.rnn.weight_ih_l0 exists already"),
    ],
)
def test_arguments_that_do_not_fit_are_named(saved, tmp_path, options, message):
    refused(saved, tmp_path, message, **options)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_hostile_file_is_refused_and_not_run(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    torch.save({"m0": Hostile()}, tmp_path / "in.pt", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / "in.pt", tmp_path, "it holds posix.system.; expected tensors and plain values only")
    assert not (tmp_path / "pwned").exists()


def test_of_what_torch_says_of_a_file_only_the_reason_is_told(tmp_path, recwarn):
    pickled, scripted, empty = (tmp_path / f"{name}.pt" for name in ("pickled", "scripted", "empty"))
    pickled.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), scripted)
    empty.touch()
    end = r"\); expected tensors and plain values only$"
    refused(pickled, tmp_path, rf"cannot be read \(Unsupported operand 149{end}")
    refused(scripted, tmp_path, rf"cannot be read \(RuntimeError: Cannot use .* with TorchScript archives .*`{end}")
    refused(empty, tmp_path, rf"cannot be read \(it ends too early{end}")
    assert not [warning for warning in recwarn if "torch.load" in str(warning.message)]


def test_a_file_that_cannot_be_read_or_is_there_already_is_named_in_one_line(saved, tmp_path):
    whole, path = saved.read_bytes(), tmp_path / "in.pt"
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, tmp_path, "in.pt: cannot be read")
    cut = tmp_path / "in.safetensors"
    save_file({"a": torch.zeros(9)}, cut)
    cut.write_bytes(cut.read_bytes()[:-5])
    refused(cut, tmp_path, "in.safetensors: cannot be read")
    absent = tmp_path / "absent.pt"
    refused(absent, tmp_path, r"absent.pt: cannot be read \(No such file or directory\); expected a checkpoint$")
    refused(tmp_path, tmp_path, r"cannot be read \(Is a directory\); expected a checkpoint$")
    (tmp_path / "out.pt").write_text("mine")
    refused(saved, tmp_path, "out.pt: exists already")
    assert (tmp_path / "out.pt").read_text() == "mine"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_file_is_named_and_nothing_is_left(saved, tmp_path, monkeypatch, error):
    def fail(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "write_bytes", fail)
    message = "the disk is full" if error == errno.ENOSPC else "cannot be written .Read-only"
    refused(saved, tmp_path, f"out.pt: {message}")


@pytest.mark.parametrize("kind", ["bias_hh", "weight_hh"])
def test_exchanged_keys_are_not_written(saved, tmp_path, monkeypatch, kind):
    """Planted: the keys of two layers' tensors of one shape are exchanged, so that only the proof can tell."""

    def exchanged(old, new):
        names = rightly(old, new)
        one, other = (f"decoder.rnn.grus.{layer}.{kind}" for layer in (1, 2))
        return names | {one: names[other], other: names[one]}

    rightly = convert.new_keys
    monkeypatch.setattr(convert, "new_keys", exchanged)
    refused(saved, tmp_path, f"{kind}_l1 of the stack has changed", error=NotProven)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_which_nothing_can_be_judged_are_not_written(tmp_path, value):
    torch.save(
        {name: torch.full_like(w, value) for name, w in nn.GRU(E, H, 2).state_dict().items()}, tmp_path / "in.pt"
    )
    message = "eval, output: not judged, ill-conditioned"
    refused(tmp_path / "in.pt", tmp_path, message, to="stacking_gru_cell", error=NotProven)


def test_moments_of_another_parameter_are_not_written(saved, tmp_path, monkeypatch):
    """Planted: the moments of two parameters of one shape are exchanged."""

    def exchanged(content, *arguments):
        names = list(dict(trained(steps=0)[0]["m0"].named_parameters()))
        one, other = (names.index(f"decoder.rnn.grus.{layer}.weight_hh") for layer in (1, 2))
        state = content["m0_optimizer"]["state"]
        state[one], state[other] = state[other], state[one]
        rightly(content, *arguments)

    rightly = convert.rename
    monkeypatch.setattr(convert, "rename", exchanged)
    refused(saved, tmp_path, "exp_avg of weight_hh_l1 in m0_optimizer has changed", error=NotProven)


def test_a_layer_that_computes_something_else_is_not_written(saved, tmp_path, monkeypatch):
    rightly = StackingGRU.forward
    monkeypatch.setattr(StackingGRU, "forward", lambda self, input, h0: rightly(self, input, h0 * 1.001))
    refused(saved, tmp_path, "eval, output: different, error is", error=NotProven)


def test_the_command_prints_the_verdict_and_its_exit_code_says_it(saved, tmp_path, monkeypatch):
    arguments = ["convert", str(saved), str(tmp_path / "out.pt"), "--to", "stacking_gru"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "12 keys renamed: decoder.rnn.grus.0.weight_ih → decoder.rnn.weight_ih_l0, …" in done.output
    assert "m0_optimizer: its moments stay with their parameters" in done.output
    assert "m1_optimizer: left as it is" in done.output
    assert re.search(r"checked: (identical|equivalent), largest error / limit 0\.\d", done.output)

    def fail(*_):
        raise NotProven("it is not so")

    monkeypatch.setattr(convert, "_check", fail)
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


def lstm(name, states=None):
    """A layer with an optimizer that keeps three tensors per parameter, after two steps or from a checkpoint."""
    torch.manual_seed(0)
    layer = build(name, input_size=E, hidden_size=H, num_layers=L, dropout=0.0).double()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2, amsgrad=True)
    if states:
        layer.load_state_dict(states["layer"])
        optimizer.load_state_dict(states["optimizer"])
    else:
        for seed in range(2):
            lstm_step(layer, optimizer, seed)
    return layer, optimizer


def lstm_step(layer, optimizer, seed=7):
    torch.manual_seed(seed)
    shapes = (5, 4, E), (L, 4, H), (L, 4, H)
    input, *states = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    optimizer.zero_grad()
    output, (hn, cn) = layer(input, tuple(states))
    (output.square().sum() + hn.sin().sum() + cn.cos().sum()).backward()
    optimizer.step()
    return canonical_parameters(layer)


@pytest.mark.parametrize(
    ("before", "prefix", "after", "new_prefix"),
    [("stacking_lstm_cell", "cell", "stacking_lstm", "lstm"), ("stacking_lstm", "lstm", "stacking_lstm_cell", "cell")],
)
def test_an_lstm_trains_on_as_it_would_have(tmp_path, before, prefix, after, new_prefix):
    """Both ways, through torch.optim: a step of either layer gives the same; moments exchanged do not."""
    layer, optimizer = lstm(before)
    torch.save({"layer": layer.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "in.pt")
    lines = convert_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", after, new_prefix=new_prefix)
    assert lines[1] == "optimizer: its moments stay with their parameters"
    convert_checkpoint(tmp_path / "out.pt", tmp_path / "back.pt", before, new_prefix=prefix)
    assert same(torch.load(tmp_path / "in.pt"), torch.load(tmp_path / "back.pt"))
    converted = torch.load(tmp_path / "out.pt")
    expected = lstm_step(layer, optimizer)
    torch.testing.assert_close(lstm_step(*lstm(after, converted)), expected, rtol=1e-9, atol=1e-12)
    held = converted["optimizer"]["state"]
    held[5], held[9] = held[9], held[5]  # weight_hh of layers 1 and 2
    wrong = lstm_step(*lstm(after, converted))
    assert (wrong["weight_hh_l1"] - expected["weight_hh_l1"]).abs().max() > 1e-4


def of_list(name, kind, one_layer, num_layers=L):
    """A model whose recurrent layers are in a list, as public code has them, beside a module of another kind."""
    make = getattr(nn, kind if one_layer else f"{kind}Cell")
    model = nn.ModuleDict({"embedding": nn.Embedding(V, E), "decoder": nn.ModuleDict({"attention": nn.Linear(H, H)})})
    model.decoder[name] = nn.ModuleList(make(H if layer else E, H) for layer in range(num_layers))
    return model.state_dict()


@pytest.mark.parametrize("one_layer", [False, True])
@pytest.mark.parametrize("name", ["layers", "rnn_cells", "grus"])
@pytest.mark.parametrize(("kind", "to"), [("GRU", "stacking_gru"), ("LSTM", "stacking_lstm")])
def test_a_list_of_any_name_goes_there_and_back(tmp_path, name, one_layer, kind, to):
    torch.save(of_list(name, kind, one_layer), tmp_path / "in.pt")
    for wanted, place in ((name, "a"), (f"decoder.{name}", "b"), (None, "c")):
        convert_checkpoint(tmp_path / "in.pt", tmp_path / f"{place}.pt", to, stack=wanted, new_prefix="decoder.rnn")
    converted = torch.load(tmp_path / "a.pt")
    assert same(converted, torch.load(tmp_path / "b.pt"))
    assert same(converted, torch.load(tmp_path / "c.pt"))
    getattr(nn, kind)(E, H, L).load_state_dict(
        {key.removeprefix("decoder.rnn."): value for key, value in converted.items() if "rnn" in key}
    )
    back = to if one_layer else f"{to}_cell"
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "back.pt", back, to_list=name, new_prefix="decoder")
    assert same(torch.load(tmp_path / "in.pt"), torch.load(tmp_path / "back.pt"))
    refused(tmp_path / "in.pt", tmp_path, "decoder.attention.weight exists already, .* --new-prefix", to=to)
    other = "stacking_gru" if kind == "LSTM" else "stacking_lstm"
    words = "this is an LSTM, not a GRU" if kind == "LSTM" else "this is a GRU, not an LSTM"
    refused(tmp_path / "in.pt", tmp_path, f"in.pt: decoder.{name}: {words}; expected --to {to}_cell or {to}", to=other)
    refused(tmp_path / "in.pt", tmp_path, f"under cells, .*; .* under decoder.{name}", stack="cells")


def test_of_several_stacks_the_kind_tells_or_from(tmp_path):
    content = {0: of_list("layers", "GRU", False), "other": of_list("layers", "LSTM", False)}
    content[0] |= {f"encoder.{key}": value for key, value in nn.LSTM(E, H).state_dict().items()}
    torch.save(content, tmp_path / "in.pt")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "gru.pt", "stacking_gru", new_prefix="decoder.rnn")
    assert "decoder.rnn.weight_ih_l2" in torch.load(tmp_path / "gru.pt")[0]
    refused(tmp_path / "gru.pt", tmp_path, "0:decoder.rnn: already has the target layer's keys", stack="decoder.rnn")
    message = "several stacks fit: 0:encoder, other:decoder.layers; expected one as --from"
    refused(tmp_path / "in.pt", tmp_path, message, to="stacking_lstm_cell")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "a.pt", "stacking_lstm_cell", stack="other:decoder.layers")
    assert "decoder.lstms.2.weight_hh" in torch.load(tmp_path / "a.pt")["other"]
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "b.pt", "stacking_lstm_cell", stack="0.encoder")
    assert "encoder.lstms.0.weight_hh" in torch.load(tmp_path / "b.pt")[0]


def test_a_name_that_ends_another_is_the_one_that_is_meant(tmp_path):
    cells = nn.ModuleList([nn.GRUCell(E, H)]).state_dict()
    torch.save(
        {f"{place}grus.{key}": value for place in ("", "a.") for key, value in cells.items()}, tmp_path / "in.pt"
    )
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", "stacking_gru", stack="grus", new_prefix="b")
    assert [key for key in torch.load(tmp_path / "out.pt") if "weight_ih" in key] == [
        "b.weight_ih_l0",
        "a.grus.0.weight_ih",
    ]


def test_one_layer_of_a_list_is_converted_only_if_it_is_named(tmp_path):
    state = of_list("layers", "GRU", True, 2)
    del state["decoder.layers.1.bias_hh_l0"]
    torch.save(state, tmp_path / "in.pt")
    refused(tmp_path / "in.pt", tmp_path, "decoder.layers: cannot be loaded .*1.bias_hh_l0", to="stacking_gru_cell")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", "stacking_gru_cell", stack="layers.0")
    assert "decoder.layers.0.grus.0.weight_ih" in torch.load(tmp_path / "out.pt")
    state = {f"net.{key}": value for key, value in nn.Sequential(nn.GRU(E, H, 2), nn.Linear(H, V)).state_dict().items()}
    torch.save(state, tmp_path / "numbered.pt")
    convert_checkpoint(tmp_path / "numbered.pt", tmp_path / "cells.pt", "stacking_gru_cell")
    assert "net.0.grus.1.weight_ih" in torch.load(tmp_path / "cells.pt")


@pytest.mark.parametrize("layer", [nn.RNN(E, H, 2), nn.LSTM(E, H, 2, proj_size=3), nn.GRU(E, H, 2, bias=False)])
def test_another_layer_is_refused(tmp_path, layer):
    torch.save({f"rnn.{key}": value for key, value in layer.state_dict().items()}, tmp_path / "in.pt")
    to = "stacking_gru_cell" if isinstance(layer, nn.GRU) else "stacking_lstm_cell"
    reason = "Missing key" if isinstance(layer, nn.GRU) else "weight_hh has .* rows for .* a GRU has 3 × as many"
    refused(tmp_path / "in.pt", tmp_path, f"rnn: cannot be loaded .*{reason}", to=to)


def test_an_optimizer_without_moments_is_said_to_have_none(tmp_path):
    layer = nn.GRU(E, H)
    content = {"layer": layer.state_dict(), "sgd": torch.optim.SGD(layer.parameters()).state_dict()}
    torch.save(content, tmp_path / "in.pt")
    assert "sgd: it has no moments" in convert_checkpoint(
        tmp_path / "in.pt", tmp_path / "out.pt", "stacking_gru_cell", optimizer="sgd"
    )


def test_a_dot_at_the_end_of_a_place_is_taken_off(saved, tmp_path):
    options = {"stack": "decoder.rnn.grus.", "to_list": "layers.", "new_prefix": "decoder.rnn."}
    convert_checkpoint(saved, tmp_path / "out.pt", "stacking_gru_cell", **options)
    assert "decoder.rnn.layers.0.weight_ih" in torch.load(tmp_path / "out.pt")["m0"]


def test_a_stack_at_the_top_level_is_named_so(tmp_path):
    state = nn.GRU(E, H).state_dict()
    torch.save(state, tmp_path / "in.pt")
    refused(tmp_path / "in.pt", tmp_path, "no stack in it under rnn, .*; the stack is at the top level$", stack="rnn")
    torch.save(state | {f"a.{key}": value for key, value in state.items()}, tmp_path / "in.pt")
    message = "no stack in it under rnn, .*; there are stacks at the top level and under a$"
    refused(tmp_path / "in.pt", tmp_path, message, stack="rnn")


def test_an_optimizers_empty_entry_stays_empty(saved, tmp_path):
    """SGD of older versions of PyTorch keeps None where there is no momentum."""
    content = torch.load(saved)
    content["m0_optimizer"]["state"] = {number: {"momentum_buffer": None} for number in range(99)}
    torch.save(content, tmp_path / "in.pt")
    convert_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", "stacking_gru", optimizer="m0_optimizer")
    assert same(torch.load(tmp_path / "out.pt")["m0_optimizer"], content["m0_optimizer"])


@pytest.mark.parametrize("fault", ["keys", "layer"])
def test_an_lstm_that_is_another_is_not_written(tmp_path, monkeypatch, fault):
    """Planted: two layers' keys exchanged, or a layer that scales c0 alone."""
    torch.save(of_list("layers", "LSTM", False), tmp_path / "in.pt")
    options = {"to": "stacking_lstm", "new_prefix": "decoder.rnn", "error": NotProven}
    keys, forward = convert.new_keys, StackingLSTM.forward

    def exchanged(old, new):
        names = keys(old, new)
        one, other = (f"decoder.layers.{layer}.weight_hh" for layer in (1, 2))
        return names | {one: names[other], other: names[one]}

    if fault == "keys":
        monkeypatch.setattr(convert, "new_keys", exchanged)
        refused(tmp_path / "in.pt", tmp_path, "weight_hh_l1 of the stack has changed", **options)
    else:

        def scaled(self, input, states):
            return forward(self, input, (states[0], states[1] * 1.001))

        monkeypatch.setattr(StackingLSTM, "forward", scaled)
        refused(tmp_path / "in.pt", tmp_path, "eval, output: different, error is", **options)


def test_the_commands_options_are_those_of_the_function(tmp_path):
    torch.save(of_list("rnn_cells", "LSTM", False), tmp_path / "in.pt")
    there = ["convert", str(tmp_path / "in.pt"), str(tmp_path / "out.pt"), "--to", "stacking_lstm"]
    done = CliRunner().invoke(app, [*there, "--from", "rnn_cells", "--new-prefix", "decoder.rnn"])
    assert done.exit_code == 0, done.output
    back = ["convert", str(tmp_path / "out.pt"), str(tmp_path / "back.pt"), "--to", "stacking_lstm_cell"]
    done = CliRunner().invoke(app, [*back, "--to-list", "rnn_cells", "--new-prefix", "decoder"])
    assert done.exit_code == 0, done.output
    assert same(torch.load(tmp_path / "in.pt"), torch.load(tmp_path / "back.pt"))


def test_a_layer_of_two_directions_is_refused_as_that(tmp_path):
    torch.save(nn.GRU(E, H, 2, bidirectional=True).state_dict(), tmp_path / "in.pt")
    refused(
        tmp_path / "in.pt", tmp_path, "has two directions, expected one: weight_ih_l0_reverse", to="stacking_gru_cell"
    )
