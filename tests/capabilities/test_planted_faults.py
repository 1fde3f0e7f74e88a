"""Each planted lack of a capability is found and named."""

import pytest

from rnn_parity.capabilities.probing import CAPABILITIES, probe, tiny_subject

FAULTS = [
    ("initial_weights", "LeavesBiases", "wrong", "reset_parameters leaves bias_ih_l0 as it was"),
    ("missing_states", "OnesForMissingH0", "wrong", "output differs from that of a call with states of zero by"),
    ("packed_sequence", "RunsOverPadding", "wrong", "gives output (4, 3, 5), expected (4, 3, 6)"),
    ("packed_sequence", "PadsPacked", "wrong", "gives a Tensor, expected a PackedSequence"),
    ("unbatched", "ReversesUnbatched", "wrong", "output differs from that of the same row in a batch"),
    ("batch_first", "TransposesStates", "wrong", "gives hn (3, 2, 6), expected (2, 3, 6)"),
    ("bidirectional", "ForwardTwice", "wrong", "the second half of the output does not come from"),
    ("no_bias", "KeepsBias", "wrong", "it still has bias_hh_l0, bias_hh_l1"),
    ("non_contiguous", "ReadsStorage", "wrong", "output differs from that of a contiguous copy"),
    ("empty_batch", "OneRowForNone", "wrong", "gives output (4, 1, 6), expected (4, 0, 6)"),
    ("empty_sequence", "ZerosForNoSteps", "wrong", "hn differs from that of the states before by"),
    ("carried_state", "DetachesState", "wrong", "grad_input differs from that of the sequence at once"),
    ("rejects_wrong_input_size", "MakesFit", "wrong", "accepts input (4, 3, 6) with states (2, 3, 6)"),
    ("rejects_wrong_hidden_size", "MakesFit", "wrong", "accepts input (4, 3, 5) with states (2, 3, 7)"),
    ("rejects_wrong_layer_count", "Overflows", "wrong", "accepts input (4, 3, 5) with states (3, 3, 6)"),
    ("rejects_wrong_batch_size", "Overflows", "wrong", "accepts input (4, 3, 5) with states (2, 1, 6)"),
    ("rejects_wrong_dtype", "MakesFit", "wrong", "accepts input (4, 3, 5) with states (2, 3, 6), of torch.float32"),
    ("rejects_wrong_dtype", "RefusesAll", "refuses", "ValueError: not"),
    ("eval_backward", "WrongInEval", "wrong", "grad_input differs from that of training without dropout"),
    ("double_backward", "DifferentiableOnce", "refuses", "RuntimeError: trying to differentiate twice"),
    ("backward_twice", "UsesUpItsGraph", "wrong", "grad_input differs from that of the first backward pass"),
    ("some_gradients", "NeedsInputGradient", "wrong", "grad_h0 differs from that of a pass where all ask for one"),
    ("gradient_checkpointing", "OwnGenerator", "wrong", "differs from that of the plain pass"),
    ("forward_ad", "DifferentiableOnce", "refuses", "RuntimeError: "),
    ("forward_ad", "WrongTangent", "wrong", "derivative differs from that of the backward pass by 4.0e+00"),
    ("vmap", "ReadsNumbers", "refuses", "RuntimeError: vmap"),
    ("per_sample_gradients", "DifferentiableOnce", "refuses", "RuntimeError: "),
    ("nan_propagation", "HidesNaN", "wrong", "output differs from that of a NaN kept in its row by nan"),
    ("nan_propagation", "SpreadsNaN", "wrong", "output differs from that of a NaN kept in its row by nan"),
    ("large_input", "Overflows", "wrong", "output is not finite"),
    ("repeatable", "OwnGenerator", "wrong", "output differs from that of the call before"),
    ("deterministic", "SumsInAnyOrder", "refuses", "RuntimeError: put_ does not have a deterministic"),
    ("multi_threading", "KeepsStateOnItself", "wrong", "thread"),  # a race: other numbers, or an error
    ("half_precision", "WidensOutput", "wrong", "gives output in torch.float32 where all is in torch.bfloat16"),
    ("autocast", "WrongUnderAutocast", "wrong", "output differs from that of float64"),
    ("state_dict", "ScaleNotSaved", "wrong", "output differs from that of the layer saved"),
    ("pickled", "HoldsALambda", "refuses", "local object 'HoldsALambda"),
    ("deepcopy", "CopiesToItself", "wrong", "output differs from that of the original before its copy was changed"),
    ("meta_device", "StaysOnTheCpu", "wrong", "gives a tensor on another device"),
    ("torch_export", "OtherWhenCompiled", "wrong", "output differs from that of the layer by"),
    ("torch_compile_fullgraph", "OtherWhenCompiled", "wrong", "output differs from that of the layer uncompiled"),
    ("torch_compile_fullgraph", "BreaksTheGraph", "refuses", "Unsupported: "),
]


def found(capability, fault):
    return probe(capability, tiny_subject(f"lacking:{fault}", "cpu"))


@pytest.mark.parametrize(("capability", "fault", "outcome", "detail"), FAULTS)
def test_a_planted_fault_is_found_and_named(capability, fault, outcome, detail):
    finding = found(capability, fault)
    assert finding.outcome == outcome, finding.detail
    assert detail in finding.detail


def test_every_probe_finds_a_planted_fault():
    # In test_capabilities.py, and where there is a GPU.
    elsewhere = {"torch_compile", "onnx_export", "cuda_graph"}
    assert {capability for capability, *_ in FAULTS} | elsewhere == set(CAPABILITIES)


def test_the_planted_faults_are_right_otherwise():
    wrong_otherwise = {fault for _, fault, *_ in FAULTS if found("carried_state", fault).outcome != "works"}
    assert wrong_otherwise == {"DetachesState", "RefusesAll"}


def test_a_layer_that_refuses_every_call_works_nowhere():
    asked = CAPABILITIES.keys() - {"torch_compile", "initial_weights"}  # slow, and without a call
    outcomes = {name: found(name, "RefusesAll").outcome for name in asked}
    assert set(outcomes.values()) <= {"refuses", "not probed"}
