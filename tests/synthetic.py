"""Tables of a given grid with values that are made up but consistent, for tests of what is downstream of measuring."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa

from rnn_parity.cells.base import load_cell
from rnn_parity.compare.criterion import floor_of_sums, layer_terms, limit, unit_roundoff
from rnn_parity.experiment.grid import Grid
from rnn_parity.tables import COLLECTED
from rnn_parity.timing.roofline import least_bytes, matmul_flops, sequential_flops

PIXEL = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
MACHINE = "A CPU, 4 cores, 16 GiB"
REGIMES = ("eval", "train_matched_masks", "train_same_seed")


def equivalence_rows(grid: Grid, *, wrong: str | None = None) -> list[dict]:
    """Every row of the grid's equivalence table; the candidate `wrong` is `different` in every regime."""
    random = np.random.default_rng(0)
    rows = []
    for case in grid.cases:
        u = unit_roundoff(case.dtype, case.tf32)
        names = load_cell(case.cell).quantities(case.num_layers)
        for candidate in grid.config["candidates"]:
            for regime in REGIMES:
                other_masks = (
                    regime == "train_same_seed"
                    and case.dropout > 0
                    and case.num_layers > 2
                    and case.sequence_length > 1
                )
                for quantity in names:
                    floor = floor_of_sums(layer_terms(quantity, case, load_cell(case.cell)), case)
                    error, baseline = (float(e) for e in random.uniform(1, 4, 2) * u)
                    different = candidate == wrong or other_masks
                    error = 0.3 if different else error
                    bar = limit(2 * u, floor)
                    rows.append(
                        {
                            **case.columns,
                            "baseline": grid.config["baseline"],
                            "implementation": candidate,
                            "regime": regime,
                            "seed": 0,
                            "quantity": quantity,
                            "verdict": "different" if different else "equivalent",
                            "reason": f"error is {error / bar:.3g}× its limit" if different else "",
                            "bit_identical": False,
                            "max_abs_diff": error,
                            "error_2": error,
                            "error_inf": error,
                            "baseline_error_2": baseline,
                            "baseline_error_inf": baseline,
                            "sensitivity_2": 2 * u,
                            "sensitivity_inf": 2 * u,
                            "limit_2": bar,
                            "limit_inf": bar,
                            "ratio": error / bar,
                            "allclose_default": False,
                            "assert_close_default": not different,
                            "mask_agreement": 0.82 if other_masks else float("nan"),
                        }
                    )
    return rows


def timing_rows(grid: Grid, *, speedup: float = 1.5) -> list[dict]:
    """Every row of the grid's timing table; each candidate is `speedup` times as fast as the baseline."""
    rows = []
    for case in grid.cases:
        for phase, share in (("inference", 1), ("forward", 1.2), ("backward", 2), ("step", 3.2)):
            cell = load_cell(case.cell)
            flops = matmul_flops(case, cell, phase)
            baseline_s = share * 5e-5 * case.sequence_length * case.num_layers + flops / 5e10
            for name in [grid.config["baseline"], *grid.config["candidates"]]:
                own = name == grid.config["baseline"]
                ratio = 1.0 if own else speedup
                median_s = baseline_s / ratio
                rows.append(
                    {
                        **case.columns,
                        "baseline": grid.config["baseline"],
                        "implementation": name,
                        "phase": phase,
                        "machine": MACHINE,
                        "exclusive": True,
                        "samples": 40,
                        "rounds_s": 0.5,
                        "first_call_s": 2 * median_s,
                        "calls_per_sample": 1,
                        "median_s": median_s,
                        "q25_s": median_s * 0.98,
                        "q75_s": median_s * 1.03,
                        "device_median_s": None,
                        "device_busy_s": np.nan,
                        "speedup": ratio,
                        "speedup_ci_low": ratio if own else ratio * 0.97,
                        "speedup_ci_high": ratio if own else ratio * 1.03,
                        "control_ratio": 1.001,
                        "control_ci_low": 0.99,
                        "control_ci_high": 1.012,
                        "conclusion": "baseline" if own else "faster" if ratio > 1.05 else "within noise",
                        "reason": "",
                        "peak_memory_bytes": 4 * case.batch_size * case.sequence_length * case.hidden_size * 10,
                        "operator_calls": (1 if own else 2) * case.sequence_length * case.num_layers,
                        "kernel_launches": None,
                        "page_faults": 0.0,
                        "path": "",
                        "flops": flops,
                        "sequential_flops": sequential_flops(case, cell, phase),
                        "least_bytes": least_bytes(case, cell, phase),
                        "step_gemm_flops_per_s": 5e10,
                        "other_busy_cores": 0.0,
                        "clock_limits": None,
                        "throttled_rounds": None,
                        "other_gpu_processes": None,
                        "started_at": 1.0e9,
                        "ended_at": 1.0e9 + 1,
                    }
                )
    return rows


def environment(grid: Grid) -> dict:
    """What `describe_environment` gives, of a machine that reaches 1e11 FLOP/s and 1e10 B/s whatever the setting."""
    rates = {"gemm_flops_per_s": 1e11, "copy_bytes_per_s": 1e10}
    return {"cpu": {"model": "A CPU", "cores": 4}, "gpu": None, "commit": None} | {
        "peaks": [{"machine": MACHINE} | setting | rates for setting in json.loads(grid.environment_request())]
    }


FAULTS = {"h0 ignored": "equations", "No dropout between the layers": "dropout", "No gradient to h0": "backward"}


def finding_rows(cases, *, missed: str | None = None) -> list[dict]:
    """The self-test's table of some cases: every fault caught but the one `missed`; dropout's not without dropout."""
    rows = []
    for case in cases:
        common = {**case.columns, "seed": 0, "weight_scale": 2.0, "input_scale": 1.0, "state_scale": 1.0}
        common |= {"baseline": "stacking_gru_cell", "comparisons": 16, "not_judged": 0, "ratio": 0.4}
        common |= {"allclose_unequal": 7, "assert_close_unequal": 1, "fault_size_u": None}
        right = {"implementation": "torch.nn:GRU", "kind": "correct", "fault": "", "finding": "held", "different": 0}
        rows.append(common | right)
        for fault, kind in FAULTS.items():
            finding = "missed" if fault == missed else "caught"
            finding = "not exercised" if kind == "dropout" and not case.draws_dropout else finding
            wrong = {"implementation": f"mutants:{kind}", "kind": kind, "fault": fault, "finding": finding}
            rows.append(common | wrong | {"different": 3 * (finding == "caught")})
    return rows


def capability_rows(names, device="cpu") -> list[dict]:
    """Every layer can do the first, only the first layer the second."""
    rows = []
    for index, name in enumerate(names):
        common = {
            "implementation": name,
            "baseline": names[0],
            "device": device,
            "cell": "gru",
            "agrees": None if index == 0 else True,
        }
        rows.append(common | {"capability": "repeatable", "title": "Repeatable", "outcome": "works", "detail": ""})
        able = {"outcome": "works", "detail": ""} if index == 0 else {"outcome": "refuses", "detail": "TypeError: <b>|"}
        rows.append(common | {"capability": "vmap", "title": "`vmap`"} | able)
    return rows


def mask_rows(implementations, *, gaps=2, steps=2, rows=3, units=4):
    """The first implementation draws step by step, the others gap by gap, from one stream."""
    kept = np.random.default_rng(0).random(gaps * steps * rows * units) > 0.2
    table = []
    for name in implementations:
        for gap, step, row, unit in np.ndindex(gaps, steps, rows, units):
            block = step * gaps + gap if name == implementations[0] else gap * steps + step
            draw = (block * rows + row) * units + unit
            sizes = {"num_layers": gaps + 1, "sequence_length": steps, "batch_size": rows, "hidden_size": units}
            place = {"gap": gap, "step": step, "row": row, "unit": unit, "draw": draw, "kept": bool(kept[draw])}
            table.append({"implementation": name, "seed": 0, "dropout": 0.1, **sizes, **place})
    return pd.DataFrame(table)


def results_of(equivalence, timing, self_test=(), coverage=(), power=(), capabilities=(), life=()):
    """Every table of an experiment; those that are not given are empty, as where the config leaves them out."""
    given = {"self_test": self_test, "coverage": coverage, "power": power, "capabilities": capabilities, "life": life}
    trust = {name: pa.Table.from_pylist(list(rows), schema=COLLECTED[name]).to_pandas() for name, rows in given.items()}
    return {"equivalence": equivalence, "timing": timing, **trust}


def life_rows(case, **faults) -> list[dict]:
    """A life of `stacking_gru`: two points hold, one is refused; `faults` are the columns of points that fail."""
    given = {"first_call": {}, "same_seed": {}, "no_states": {"verdict": "unsupported", "reason": "TypeError: <b>|"}}
    rows = []
    for point, columns in {**given, **{name: {"verdict": "different", **of} for name, of in faults.items()}}.items():
        row = {"implementation": "stacking_gru", "point": point, "title": point.replace("_", " ").capitalize()}
        row |= {"condition": "", "verdict": "equivalent", "when": "", "quantity": "", "reason": "", "ratio": 0.1}
        rows.append({**case.columns, **row, "calls": 3, "elapsed_s": 0.1, **columns})
    return rows
