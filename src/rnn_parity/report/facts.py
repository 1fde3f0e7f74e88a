"""Everything that the report states, taken from the tables: the names that the template sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd

from rnn_parity.compare import criterion
from rnn_parity.experiment.vocabulary import AXES, PASSING, Phase, Regime, axis_word, tick_label
from rnn_parity.experiment.workloads import LAYER, load_object, sweeps_of, workloads_of
from rnn_parity.findings import figure_tables, life_rates, on_gpu, rates
from rnn_parity.findings.answer import answer_for
from rnn_parity.findings.capabilities import capability_rows, lost_capabilities
from rnn_parity.findings.cases import case_names, case_table
from rnn_parity.findings.efficiency import efficiency_table
from rnn_parity.findings.lives import fault_sentence, life_of, remarks
from rnn_parity.findings.machines import machine_of_case, numbered, split_sweeps, unlike
from rnn_parity.findings.speedups import (
    LOADED_CORES,
    conclusions,
    quoted_speedups,
    shares_of_peak,
    timing_effort,
    untimed,
)
from rnn_parity.findings.verdicts import (
    article_lengths,
    not_judged,
    reasons,
    seed_table,
    tolerance_checks,
    verdict_table,
)
from rnn_parity.report.caveats import find_caveats, memory_ratio
from rnn_parity.report.figures import FIGURES, SECTIONS
from rnn_parity.report.first_screen import choices, conditions, prices, sweep_rows
from rnn_parity.statistics import LARGEST_CHANGE
from rnn_parity.timing.throttling import STEADY

MOST_SWEEPS, MOST_CASES_OF_SWEEP, MOST_UNDETECTED = 30, 40, 30


@dataclass(frozen=True)
class Section:
    """The part of a workload from outside in the report.

    Attributes:
        package: whose folder `templates` has the templates. answer: the template of its paragraphs after the answer.
        body: that of a section of its own. facts: the names that both see beside the report's.
    """

    package: str
    answer: str
    body: str
    facts: Mapping[str, Any]


def collect_facts(config: Mapping, environment: Mapping, results: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The facts of one experiment: its completed config, its machine, and its tables by name."""
    equivalence, timing = results["equivalence"], results["timing"]
    present = set(equivalence["regime"])
    pairs = [(c, compared["baseline"]) for compared in config["cells"].values() for c in compared["candidates"]]
    cases, names = case_table(equivalence, timing), case_names(pd.concat([equivalence, timing]))
    shown = split_sweeps(cases, timing)
    kept, tried = rates.kept_rates(tuple(config["cells"])), results["self_test"]
    power = kept.power.assign(kept=True) if results["power"].empty else results["power"].assign(kept=False)
    abilities = capability_rows(results["capabilities"])
    seed_rows = records(seed_table(equivalence))
    efficiency = efficiency_table(timing, environment.get("peaks") or [])
    effort = timing_effort(timing, float(config["timing"]["max_seconds"]))
    answers = [_answer(*pair, config, environment, results, cases, abilities, efficiency) for pair in pairs]
    sections = [load_object(entry.section)(config, results) for entry in workloads_of(config) if entry.section]
    facts = {
        "config": config,
        "environment": environment,
        "layer_alone": bool(sweeps_of(config, LAYER)),
        "Phase": Phase,
        "fault_sentence": fault_sentence,
        "regimes": [name for name in Regime if name in present],
        "answers": answers,
        "choices": choices(answers),
        "sweep_rows": sweep_rows(split_sweeps(equivalence, timing), split_sweeps(timing, timing), names),
        "reasons": reasons(verdict_table(equivalence))[:MOST_SWEEPS],
        "not_judged": not_judged(equivalence).to_dict("records")[:MOST_SWEEPS],
        "sweeps": _sweeps(shown),
        "phases": [phase for phase in Phase if phase in set(timing["phase"])],
        "cases": shown,
        "tolerances": tolerance_checks(equivalence),
        "seed_rows": seed_rows[:MOST_CASES_OF_SWEEP],
        "protocol": article_lengths(equivalence),
        "kept": {
            "by_cell": _trust(kept.detection, kept.false_alarms),
            "environment": kept.environment,
            "cases": kept.cases,
            "lives": _kept_lives(tuple(config["cells"])),
        },
        "tried_here": {"by_cell": _trust(rates.detection(tried), rates.false_alarms(tried))},
        "power": records(power) if Regime.TRAIN_DISTRIBUTION in present else [],
        "undetected_by_case": _undetected_by_case(results["coverage"], names),
        "detected_by_none": rates.detected_by_none(results["coverage"]),
        "lives": _lives(results["life"]),
        "capabilities": _by_place(abilities),
        "effort": effort,
        "machines": _machines(timing, environment),
        "unlike": unlike(timing),
        "loaded_cores": LOADED_CORES,
        "steady": STEADY,
        "largest_change": LARGEST_CHANGE,
        "figures": _figures(results, _captions(environment, timing, effort), () if seed_rows else ("dropout",)),
        "seeds": sorted({int(seed) for seed in equivalence["seed"].unique()}),
        "criterion": criterion,
        "on_gpu": {
            "libraries": on_gpu.libraries(timing),
            "calls": on_gpu.calls(timing, [row["case_id"] for answer in answers for row in answer["quoted"]]),
            "occupancy": on_gpu.occupancy(timing),
            "undisturbed": on_gpu.undisturbed(timing),
        },
        "untimed": untimed(timing),
        "config_digest": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12],
        "tracking_link": _tracking_link(config),
        "sections": sections,
    }
    for section in sections:
        facts |= section.facts
    return facts


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries."""
    return table.to_dict("records")


def _answer(name, baseline_name, config, environment, results, cases, abilities, efficiency) -> dict[str, Any]:
    """One candidate: its answer, the speedups that are quoted, its caveats, and how many cases are faster."""
    equivalence, timing = results["equivalence"], results["timing"]
    timing = timing[
        timing["sweep"].isin(sweeps_of(config, LAYER))
    ]  # the speedups of another workload have their own paragraph
    answer = answer_for(equivalence, name, results["life"], results["timing"], results["capabilities"])
    quoted = records(quoted_speedups(timing, name, config["report"]["sweep"]))
    baseline = timing[
        (timing["implementation"] == baseline_name) & timing["case_id"].isin({r["case_id"] for r in quoted})
    ]
    slower = {phase: _slower(cases, name, phase) for phase in Phase}
    lost = lost_capabilities(abilities, baseline_name, name)
    same_case = {row["phase"]: row for row in records(baseline)}
    caveats = find_caveats(answer, remarks(life_of(results["life"], name)), lost, slower, quoted, same_case)
    return {
        "candidate": name,
        "baseline": baseline_name,
        "answer": answer,
        "when": conditions(answer),
        "quoted": quoted,
        "machine": _machine(environment, quoted, results["timing"]),
        "caveats": caveats,
        "prices": prices(answer, lost, memory_ratio(quoted, same_case)),
        "lost": lost,
        "shares": shares_of_peak(efficiency, quoted[0]["case_id"], [name, baseline_name]) if quoted else {},
        "conclusions": records(conclusions(timing, name)),
        "slower": slower,
        "first_calls": _first_calls(quoted, same_case),
        "float32_errors": on_gpu.float32_errors(equivalence, name),
    }


def _lives(life: pd.DataFrame) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The points of each candidate and kind of cell, with their rows by dtype."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in records(life):
        points = found.setdefault((row["implementation"], row["cell"]), {})
        point = points.setdefault(row["point"], {"title": row["title"], "calls": 0, "holds": True, "by_dtype": {}})
        point["calls"] += row["calls"]
        point["holds"] &= row["verdict"] in PASSING and not row["reason"]
        point["by_dtype"][tick_label("tf32", True) if row["tf32"] else row["dtype"]] = row
    return {key: list(points.values()) for key, points in found.items()}


def _by_place(abilities: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """The rows of the capabilities by device, kind and baseline."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in abilities:
        groups.setdefault((row["device"], row["cell"], row["baseline"]), []).append(row)
    return groups


def _first_calls(quoted: Sequence[Mapping], of_baseline: Mapping[str, Mapping]) -> dict[str, list[float]]:
    """By phase, the first call of the quoted case in seconds where it is known of both: candidate and baseline."""
    pairs = {row["phase"]: [one["first_call_s"] for one in (row, of_baseline[row["phase"]])] for row in quoted}
    return {phase: pair for phase, pair in pairs.items() if not pd.isna(pair).any()}


def _machine(environment: Mapping, quoted: Sequence[Mapping], timing: pd.DataFrame) -> str:
    """The machine of the quoted case in words; what is not known is left out."""
    device = quoted[0]["device"] if quoted else "cpu"
    if quoted and timing.loc[timing["device"] == device, "machine"].nunique() > 1:
        name = quoted[0]["machine"]
        return f"machine {numbered(timing)[name]} ({name})"
    part = environment.get("gpu" if device == "cuda" else "cpu") or {}
    name = part.get("name") or part.get("model")
    return f"this machine ({name})" if name else f"this machine's {device}"


def _machines(timing: pd.DataFrame, environment: Mapping) -> list[dict[str, Any]]:
    """The kinds of machines that timed, by their numbers: how many cases each, and the rates that it reached."""
    cases, peaks = machine_of_case(timing).value_counts(), environment.get("peaks") or []
    return [
        {
            "number": number,
            "name": name,
            "cases": int(cases.get(name, 0)),
            "peaks": [peak for peak in peaks if peak.get("machine") == name],
        }
        for name, number in numbered(timing).items()
    ]


def _slower(cases: pd.DataFrame, candidate: str, phase: str) -> list[str]:
    """The cases in which a candidate is slower, in words."""
    column = f"conclusion_{phase}"
    if column not in cases:
        return []
    rows = cases[(cases["implementation"] == candidate) & (cases[column] == "slower")]
    return [f"{sweep} {case}".strip() for sweep, case in zip(rows["sweep"], rows["case"], strict=True)]


def _tracking_link(config: Mapping) -> str:
    """Where the server that the config names shows its experiments, without user and password; empty for none."""
    parts = urlsplit(config["tracking"]["uri"] or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    return quote(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/#/experiments", safe=":/#"
    )


def _sweeps(cases: pd.DataFrame) -> dict[str, Any]:
    """A section per sweep: what it varies, what it holds fixed, and its first cases."""
    sections: list[dict[str, Any]] = []
    for sweep, rows in cases.groupby("sweep", sort=False):
        if len(sections) == MOST_SWEEPS:
            break
        values = {axis: list(dict.fromkeys(rows[axis])) for axis in AXES}
        varied = {AXES[axis].label: found for axis, found in values.items() if len(found) > 1}
        fixed = [axis_word(axis, found[0]) for axis, found in values.items() if len(found) == 1]
        sections.append(
            {
                "name": sweep,
                "cases": rows["case_id"].nunique(),
                "varied": {label: ", ".join(map(str, found)) for label, found in varied.items()},
                "fixed": fixed,
                "rows": records(rows.iloc[:MOST_CASES_OF_SWEEP]),
                "left_out": max(0, len(rows) - MOST_CASES_OF_SWEEP),
            }
        )
    return {"sections": sections, "left_out": cases["sweep"].nunique() - len(sections)}


def _captions(environment: Mapping, timing: pd.DataFrame, effort: Mapping) -> dict[str, str]:
    """By section of the report, what the caption of each of its figures says at the end."""
    name, devices = (environment.get("gpu") or {}).get("name"), set(timing["device"])
    where = f" Run on one GPU ({name})." if name and devices == {"cuda"} else ""
    shared = " Timed while other jobs of the workflow ran." if effort["shared"] else ""
    own = " On a GPU, cuDNN draws from a generator of its own." if "cuda" in devices else ""
    return {"verdicts": where, "speed": where + shared, "numbers": where, "dropout": own}


def _figures(
    results: Mapping[str, pd.DataFrame], beside: Mapping[str, str], without: Sequence[str]
) -> list[dict[str, Any]]:
    """The figures that have something to show, in the order of the report's sections, numbered, with what n is."""
    sizes = {name: figure_tables.sample_size(name, results) for name in FIGURES}
    present = [item for item in FIGURES.items() if sizes[item[0]] and item[1].section not in without]
    in_order = sorted(present, key=lambda item: SECTIONS.index(item[1].section))
    return [
        {"name": name, "entry": entry, "number": at, "size": sizes[name] + beside.get(entry.section, "")}
        for at, (name, entry) in enumerate(in_order, 1)
    ]


def _trust(detection: pd.DataFrame, alarms: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The rates of one self-test by kind of cell: by dtype and device, and the targets that are not met."""
    found = {}
    for cell, of_cell in alarms.groupby("cell", sort=False):
        planted = detection[detection["cell"] == cell]
        by_fault: dict[str, dict[str, Any]] = {}
        for row in records(planted):
            of_fault = by_fault.setdefault(row["fault"], {"kind": row["kind"], "fault": row["fault"], "by_dtype": {}})
            of_fault["by_dtype"][row["dtype"]] = row
        found[str(cell)] = {
            "false_alarms": records(of_cell),
            "detection": list(by_fault.values()),
            "totals": records(rates.totals(planted)),
            "largest_hidden": rates.largest_hidden(planted),
            "unmet_targets": rates.unmet_targets(planted, of_cell),
        }
    return found


def _kept_lives(cells: tuple[str, ...]) -> list[dict[str, Any]]:
    """What the self-test's lives saw, one row per kind of cell, with its kinds of faults."""
    counts = life_rates.kept_lives(cells)
    kinds = life_rates.by_kind(counts)
    unmet = {cell: life_rates.unmet_targets(of_cell) for cell, of_cell in counts.groupby("cell")}
    return [
        row | {"kinds": records(kinds[kinds["cell"] == row["cell"]]), "unmet_targets": unmet[row["cell"]]}
        for row in records(life_rates.totals(counts))
    ]


def _undetected_by_case(coverage: pd.DataFrame, names: Mapping[str, str]) -> dict[str, Any]:
    """The blind spots with their cases in words, sweep by sweep."""
    rows = []
    found = rates.undetected_by_case(coverage)
    for row in found[:MOST_UNDETECTED]:
        by_sweep: dict[str, list[str]] = {}
        for case_id in row["case_ids"]:
            by_sweep.setdefault(case_id.split("/")[0], []).append(names[case_id])
        rows.append(row | {"by_sweep": by_sweep})
    return {"rows": rows, "left_out": len(found) - len(rows)}
