"""A kind of cell in one file outside the package: the check, the self-test and mask recovery need nothing more."""

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from own_kind import MGU, Loop
from rnn_parity.api import check
from rnn_parity.cells.stack import run_stack
from rnn_parity.dropout.masks import DropoutRecorder
from rnn_parity.dropout.order import order_of
from rnn_parity.dropout.recovery import Replay, recover_masks
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case
from rnn_parity.findings.rates import detection, false_alarms, unmet_targets
from rnn_parity.layers.stimulus import build_loaded, draw_stimulus
from rnn_parity.trust.examine import faults_of
from rnn_parity.trust.run import CASES_PER_FAULT, examine_samples

KIND = "own_kind:MGU"
QUICK = {"cell": KIND, "device": "cpu", "seeds": [0], "capabilities": False, "timing_seconds": 0.0}


@settings(max_examples=20)
@given(steps=st.integers(1, 4), layers=st.integers(1, 3), hidden=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_its_backward_step_is_that_of_autograd(steps, layers, hidden, seed):
    case = Case("own", "cpu", "float64", False, 3, hidden, layers, steps, 2, 0.0, 1, KIND)
    stimulus = draw_stimulus(case, seed)
    module = build_loaded(case, "own_kind:Loop", stimulus)
    given = [tensor.clone().requires_grad_() for tensor in (stimulus.input, *stimulus.states)]
    outputs = module(*given)
    gradients = torch.autograd.grad(outputs, [*given, *module.parameters()], stimulus.cotangents)
    found = run_stack(MGU, stimulus.input, stimulus.states, stimulus.weights, stimulus.cotangents)
    for value, right in zip(found.values(), (*outputs, *gradients), strict=True):
        torch.testing.assert_close(value, right.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("candidate", "equivalent"), [("Mixed", True), ("Inverted", False)])
def test_a_layer_of_that_kind_is_judged(candidate, equivalent):
    report = check("own_kind:Loop", f"own_kind:{candidate}", **QUICK)
    assert report.equivalent == equivalent, report.explain()
    assert {"hn", "grad_h0", "grad_weight_hh_l2"} <= set(report.equivalence["quantity"])


def test_a_layer_of_another_kind_is_named():
    with pytest.raises(InputError, match="candidate: torch.nn:LSTM: this is an LSTM, not a minimal gated unit"):
        check(Loop, "torch.nn:LSTM", **QUICK)


def test_a_kind_that_is_not_there_is_named():
    with pytest.raises(InputError, match="cell: no_such:Kind cannot be imported"):
        check(Loop, "own_kind:Mixed", **QUICK | {"cell": "no_such:Kind"})


@pytest.mark.slow
def test_its_self_test_plants_the_faults_of_any_kind():
    found = pd.DataFrame(list(examine_samples("cpu", "float32", range(2 * CASES_PER_FAULT), KIND)))
    assert set(found.query("kind != 'correct'")["implementation"]) == set(faults_of(KIND))
    assert unmet_targets(detection(found), false_alarms(found)) == []
    assert (found["finding"] == "caught").sum() > 40


def test_masks_of_that_kind_are_recovered():
    case = Case("own", "cpu", "float32", False, 3, 8, 3, 5, 2, 0.3, 1, KIND)
    stimulus = draw_stimulus(case, 0)
    module = build_loaded(case, "own_kind:Loop", stimulus).train()
    with DropoutRecorder() as draws, Replay(3):
        module(stimulus.input, *stimulus.states)
    drawn = order_of(case, "own_kind:Loop").to_masks(draws.stream())
    assert torch.equal(recover_masks(case, "own_kind:Loop", Replay(3)), drawn)
