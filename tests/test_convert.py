"""A checkpoint is rewritten for the other layer: there and back bit for bit, proved, or not written at all."""

import os
import random
import re
import sys
import warnings
import zipfile
from collections import OrderedDict
from itertools import chain

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_tracking_store import on_own_disk
from torch import nn
from typer.testing import CliRunner

from conftest import PROJECT
from rnn_parity.checkpoint import convert, stacks
from rnn_parity.checkpoint.convert import convert_checkpoint
from rnn_parity.checkpoint.files import read_checkpoint, same_bits
from rnn_parity.checkpoint.proof import NotProven
from rnn_parity.commands.cli import app
from rnn_parity.experiment.errors import InputError
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
        return same_bits(a, b) and a.stride() == b.stride()
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_there_and_back_is_the_same_bit_for_bit(saved, tmp_path):
    there = convert_checkpoint(saved, tmp_path / "there.pt", "stacking_gru")
    back = convert_checkpoint(tmp_path / "there.pt", tmp_path / "back.pt", "stacking_gru_cell", prefix="decoder.rnn")
    assert there.optimizers == back.optimizers
    assert there.optimizers["m0_optimizer"] == "the moments of these 12 parameters stay theirs"
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


def with_optimizer(folder, optimizer_of, **more):
    """A checkpoint whose one optimizer, of both models, has done a step."""
    parts = {name: part for name, part in trained(steps=0)[0].items() if name in ("m0", "m1")}
    optimizer = optimizer_of(parts["m0"], parts["m1"])
    step(parts | {"m0_optimizer": optimizer, "m1_optimizer": optimizer}, 0)
    torch.save(checkpoint(parts | {"optimizer": optimizer}) | more, folder / "in.pt")
    return folder / "in.pt"


def named(*models):
    return chain.from_iterable(model.named_parameters() for model in models)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_one_optimizer_of_several_models_is_followed_by_name(tmp_path, kind):
    path = with_optimizer(tmp_path, lambda *models: kind(named(*models), 1e-2))
    done = convert_checkpoint(path, tmp_path / "out.pt", "stacking_gru", optimizer="optimizer")
    fused = trained(FUSED, 0)[0]
    names = torch.load(tmp_path / "out.pt")["optimizer"]["param_groups"][0]["param_names"]
    assert names == [name for name, _ in named(fused["m0"], fused["m1"])]
    kept = kind is torch.optim.Adam
    expected = "the moments of these 12 parameters stay theirs" if kept else "it keeps no moments of these parameters"
    assert f"optimizer: {expected}" in done.describe()
    convert_checkpoint(tmp_path / "out.pt", tmp_path / "back.pt", "stacking_gru_cell", prefix="m0:decoder.rnn")
    assert same(torch.load(path), torch.load(tmp_path / "back.pt"))


def test_moments_of_some_parameters_are_counted(tmp_path):
    def of_some(m0, m1):
        m0.decoder.rnn.grus[0].requires_grad_(False)
        return torch.optim.Adam(named(m0, m1), 1e-2)

    done = convert_checkpoint(with_optimizer(tmp_path, of_some), tmp_path / "out.pt", "stacking_gru")
    assert done.optimizers == {"optimizer": "the moments of 8 of these 12 parameters stay theirs"}


def decayed(m0, m1):
    by_dimension = [[p for p in m0.parameters() if (p.dim() > 1) is wide] for wide in (True, False)]
    return torch.optim.Adam([{"params": by_dimension[0], "weight_decay": 1e-2}, {"params": by_dimension[1]}], 1e-2)


@pytest.mark.parametrize(
    ("optimizer_of", "reason"),
    [
        (decayed, "its 2 groups have no param_names to tell their parameters apart"),
        (lambda m0, m1: torch.optim.Adam(m1.parameters()), "it has 2 parameters, expected the 39 of m0"),
        (
            lambda m0, m1: torch.optim.Adam(named(m1)),
            r"it has no parameters decoder.rnn.grus.0.weight_ih, expected one",
        ),
        (
            lambda m0, m1: torch.optim.Adam([*named(m0), ("decoder.rnn.grus.0.weight_ih", m1.weight)]),
            r"it has 2 parameters decoder.rnn.grus.0.weight_ih, expected one",
        ),
    ],
)
def test_an_optimizer_that_is_left_as_it_is_is_named_with_the_reason(tmp_path, optimizer_of, reason):
    path = with_optimizer(tmp_path, optimizer_of)
    refused(path, tmp_path, reason, optimizer="optimizer")
    done = convert_checkpoint(path, tmp_path / "out.pt", "stacking_gru")
    (line,) = [line for line in done.describe() if line.startswith("optimizer: ")]
    assert re.search(f"^optimizer: left as it is: .*{reason}", line)
    assert same(torch.load(path)["optimizer"], torch.load(tmp_path / "out.pt")["optimizer"])


def test_an_optimizer_beside_the_one_that_was_asked_for_is_left_as_it_is(tmp_path):
    path = with_optimizer(tmp_path, lambda *models: torch.optim.Adam(named(*models)))
    content = torch.load(path)
    torch.save(content | {"older": content["optimizer"]}, path)
    done = convert_checkpoint(path, tmp_path / "out.pt", "stacking_gru", optimizer="optimizer")
    assert done.optimizers["older"] == "left as it is: --optimizer is optimizer"
    assert same(torch.load(tmp_path / "out.pt")["older"], content["optimizer"])


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


def as_dtype(dtype):
    def change(content):
        state = content["m0"]
        state.update({key: value.to(dtype) for key, value in state.items() if "grus" in key})

    return change


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
        (
            as_dtype(torch.float8_e4m3fn),
            "its tensors are torch.float8_e4m3fn, expected one of float64, float32, bfloat16",
        ),
        (as_dtype(torch.int8), "weight_ih is no plain tensor of floating-point numbers"),
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


SMALL = {"m0": StackingGRUCell(2, 3, 1, 0.0).state_dict(), "seen": torch.arange(9), "best": (1.5, "x")}


def damage(whole, draw):
    """Cut short, or some bytes of it replaced, the first ones more often than others."""
    if draw.random() < 0.2:
        return whole[: draw.randrange(len(whole))]
    changed = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 9])):
        changed[draw.randrange(draw.choice([9, 300, len(whole)]))] = draw.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("content", [SMALL, SMALL | {"m1": Hostile()}], ids=["plain", "hostile"])
@pytest.mark.parametrize(("zipped", "checksums"), [(False, True), (True, True), (True, False)])
def test_whatever_is_damaged_is_read_or_refused_in_one_line(tmp_path, monkeypatch, content, zipped, checksums):
    monkeypatch.chdir(tmp_path)
    path, draw, said = tmp_path / "in.pt", random.Random(0), set()
    save_with_checksums(checksums, content, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for damaged in [*(bytes([first]) + b"bc\n\n" for first in range(256)), *(damage(whole, draw) for _ in range(300))]:
        path.write_bytes(damaged)
        said.add(said_of(path))
    assert ("" in said) == (content is SMALL)
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in said - {""})
    assert len(said) > 5
    assert not (tmp_path / "pwned").exists()


def said_of(path):
    """Why a file is refused; nothing where it is read."""
    try:
        read_checkpoint(path)
    except InputError as error:
        return str(error)
    return ""


def save_with_checksums(checksums, *arguments, **options):
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(*arguments, **options)
    finally:
        torch.serialization.set_crc32_options(True)


def test_a_file_without_checksums_is_taken_and_its_headers_are_still_held_against_each_other(saved, tmp_path):
    path = tmp_path / "in.pt"
    save_with_checksums(False, torch.load(saved), path)
    whole = path.read_bytes()
    convert_checkpoint(path, tmp_path / "out.pt", "stacking_gru")
    convert_checkpoint(saved, tmp_path / "other.pt", "stacking_gru")
    assert same(torch.load(tmp_path / "out.pt"), torch.load(tmp_path / "other.pt"))
    (tmp_path / "out.pt").unlink()
    header = whole.index(b"PK\3\4", 500)
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:header] + b"XX" + whole[header + 2 :]):
        path.write_bytes(damaged)
        refused(path, tmp_path, "in.pt: is no whole checkpoint")


def test_an_encrypted_file_is_refused(saved, tmp_path):
    whole, path = bytearray(saved.read_bytes()), tmp_path / "in.pt"
    for signature, flags in ((rb"PK\x03\x04", 6), (rb"PK\x01\x02", 8)):
        for found in re.finditer(signature, bytes(whole)):
            whole[found.start() + flags] |= 1
    path.write_bytes(whole)
    refused(path, tmp_path, "in.pt: is no whole checkpoint .*encrypted")


def sparse():
    matrix = torch.eye(4)
    return {
        "coo": matrix.to_sparse_coo(),
        "csr": matrix.to_sparse_csr(),
        "csc": matrix.to_sparse_csc(),
        "bsr": matrix.to_sparse_bsr((2, 2)),
        "bsc": matrix.to_sparse_bsc((2, 2)),
    }


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_sparse_and_conjugated_tensors_are_kept_bit_for_bit(saved, tmp_path):
    more = {**sparse(), "conj": torch.tensor([1 + 2j]).conj(), "again": torch.ones(1).expand(9)}
    path = changed(saved, tmp_path, lambda content: content["m0"].update(more))
    convert_checkpoint(path, tmp_path / "out.pt", "stacking_gru")
    written = torch.load(tmp_path / "out.pt")["m0"]
    for name, tensor in more.items():
        assert same_bits(written[name], tensor), name
    for name, tensor in sparse().items():
        assert not same_bits(tensor, tensor * 2), name
        assert not same_bits(tensor, tensor.to_dense()), name
        moved = getattr(torch.eye(4).roll(1, 0), f"to_sparse_{name}")(*[(2, 2)] * name.startswith("bs"))
        assert not same_bits(tensor, moved), name


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantized, nested or meta tensor"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "quantized, nested or meta tensor"),
        (lambda: torch.ones(3, device="meta"), "quantized, nested or meta tensor"),
        (lambda: torch.ones(1).expand(10**12), "repeats what is in the file to 4000000000000 bytes"),
    ],
)
def test_a_tensor_that_cannot_be_compared_is_named(saved, tmp_path, odd, message):
    path = changed(saved, tmp_path, lambda content: content.update(more=[1, odd()]))
    refused(path, tmp_path, f"in.pt: more.1 .*{message}")


def test_what_holds_itself_is_refused(saved, tmp_path):
    def hold(content):
        content["self"] = [content]

    refused(changed(saved, tmp_path, hold), tmp_path, "in.pt: holds itself, or is nested deeper than 100")


@pytest.mark.parametrize("place", ["file/out.pt", "o" * 300 + ".pt"])
def test_a_place_that_takes_no_file_is_named(saved, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"\.pt: cannot be written \(File .*\); expected a place for a new") as caught:
        convert_checkpoint(saved, tmp_path / place, "stacking_gru")
    assert str(caught.value).startswith(str(tmp_path / place))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


DISK = """
set -e
mount -t tmpfs -o size=100k tmpfs "$1"
mkdir "$1/locked"
mount -t tmpfs -o ro tmpfs "$1/locked"
"$2" -c "$3" "$1" "$4"
mount -o remount,size=9m "$1"
"$2" -m rnn_parity convert "$4" "$1/out$5" --to stacking_gru > /dev/null
ls -m "$1"
"""
FILL = """
import sys
from pathlib import Path
from rnn_parity.checkpoint.convert import convert_checkpoint
from rnn_parity.experiment.errors import InputError

disk, source = map(Path, sys.argv[1:])

def attempt(folder):
    try:
        convert_checkpoint(source, folder / f"out{source.suffix}", "stacking_gru")
    except InputError as error:
        print(error)

attempt(disk / "locked")
for pages in (0, 12, 23, 24, 25):
    (disk / "ballast").write_bytes(bytes(4096 * pages))
    attempt(disk)
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "locked"]
"""


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_full_disk_and_one_that_is_only_read_are_named_and_nothing_is_left(tmp_path, suffix):
    disk, source = tmp_path / "disk", tmp_path / f"in{suffix}"
    disk.mkdir()
    state = StackingGRUCell(E, 60, 2, 0.0).state_dict()
    (save_file if suffix == ".safetensors" else torch.save)(dict(state), source)
    assert source.stat().st_size > 110_000
    done = on_own_disk(DISK, str(disk), sys.executable, FILL, str(source), suffix)
    assert done.returncode == 0, done.stdout + done.stderr
    locked, *full, left = done.stdout.splitlines()
    assert locked.startswith(f"{disk}/locked/out{suffix}: cannot be written (Read-only file system); expected")
    message = f"{disk}/out{suffix}: the disk is full; free some space and run the same command again"
    assert full == [message] * 5
    assert left == f"ballast, locked, out{suffix}"


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
    assert "m1_optimizer: left as it is: it has 2 parameters, expected the 39 of m0" in done.output
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
