"""What one GPU said and gave, kept in reports/reference/gpu/fixtures, held against the code that reads such things."""

import json

import pytest
import torch

from project import PROJECT
from rnn_parity.cells.base import load_cell
from rnn_parity.cells.stack import run_stack
from rnn_parity.compare.reference import relative_errors
from rnn_parity.experiment.vocabulary import GPU_FUNCTION_ERROR, TF32_UNIT_ROUNDOFF
from rnn_parity.layers.running import DeviceLost, classify_exception
from rnn_parity.timing import costs

FIXTURES = PROJECT / "reports/reference/gpu/fixtures"
MESSAGES = json.loads((FIXTURES / "messages.json").read_text())
FUNCTIONS = json.loads((FIXTURES / "functions.json").read_text())
ERRORS = {
    "RuntimeError": RuntimeError,
    "NotImplementedError": NotImplementedError,
    "OutOfMemoryError": torch.OutOfMemoryError,
    "AcceleratorError": torch.AcceleratorError,
}


def error(attempt):
    said = MESSAGES[attempt]["error"]
    return ERRORS[said["type"]](said["text"])


@pytest.mark.parametrize(
    ("attempt", "verdict"),
    [
        ("backward_in_eval", "unsupported"),
        ("double_backward", "unsupported"),
        ("too_much_memory", "not judged"),
        ("not_contiguous", "failed"),
    ],
)
def test_what_cudnn_refuses_is_told_from_what_fails(attempt, verdict):
    found, reason = classify_exception(error(attempt))
    assert found == verdict
    assert MESSAGES[attempt]["error"]["text"][:40] in reason


def test_an_assert_on_the_device_is_a_lost_device():
    with pytest.raises(DeviceLost):
        classify_exception(error("index_out_of_range"))


def test_the_fake_refuses_in_the_words_of_the_real_one(cudnn):
    from fake_cudnn import CudnnGRU

    layer = CudnnGRU(input_size=5, hidden_size=6, num_layers=2).eval()
    said = {}
    for attempt, states in (
        ("not_contiguous", torch.randn(2, 3, 6)[:, :1]),
        ("backward_in_eval", torch.randn(2, 1, 6)),
    ):
        with pytest.raises(RuntimeError) as caught:
            layer(torch.randn(4, 1, 5, requires_grad=True), states)[0].sum().backward()
        said[attempt] = str(caught.value)
    assert said == {attempt: MESSAGES[attempt]["error"]["text"] for attempt in said}


def test_weights_that_are_copied_at_every_call_are_known_by_the_warning():
    (warning,) = MESSAGES["half_weights"]["warnings"]
    assert costs._COPIED in warning


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_cudnn_computes_the_equations_and_as_it_comes_in_tf32(kind):
    """Forward and backward at H = 8, every switch as PyTorch has it: further off than float32, within TF32."""
    kept = torch.load(FIXTURES / "cudnn.pt")[kind]
    input, *states = (tensor.double() for tensor in (kept["input"], *kept["states"]))
    weights = {name: value.double() for name, value in kept["parameters"].items()}
    cell = load_cell(kind)
    cotangents = [torch.ones(*input.shape[:2], 8).double(), *(torch.zeros_like(state) for state in states)]
    right = run_stack(cell, input, tuple(states), weights, tuple(cotangents))
    found = dict(zip(cell.outputs(), (kept["output"], *kept["last"]), strict=True))
    found |= {f"grad_{name}": value for name, value in kept["gradients_of_output_sum"].items()}
    errors = [relative_errors(value, right[name])[0] for name, value in found.items()]
    assert 1e-5 < max(errors) < 6 * TF32_UNIT_ROUNDOFF


def test_what_is_granted_to_a_function_is_what_cudnns_narrow_layers_have():
    """Up to 192 units its tanh has the error that is granted; above, and without cuDNN, that of float32."""
    x, errors = (torch.tensor(row) for row in FUNCTIONS["nn.LSTM tanh of the cell state, H 64, by x"])
    rms = errors[x.abs() < 2].square().mean().sqrt().item()
    assert rms == pytest.approx(GPU_FUNCTION_ERROR, rel=0.1)
    for name, error in FUNCTIONS.items():
        if "by x" not in name:
            narrow = "cudnn True" in name and int(name.split("H ")[1].split(",")[0]) <= 192
            assert (error["max"] > 1e-6) == (narrow and "tanh" in name), name


def test_masks_in_16_bits_are_half_those_of_the_draw_before():
    """Of `F.dropout` on a GPU: entries 4 to 7 of every eight, and entries 0 to 3 of the next mask."""
    correlated = json.loads((FIXTURES / "dropout.json").read_text())
    assert correlated["torch.float16"] == correlated["torch.bfloat16"] == 1
    assert abs(correlated["torch.float32"]) < 0.05
