"""The error rates of the check, of many random cases and of lives: hours of computing, kept with the package."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from benchmarks.result import PROJECT, Result
from rnn_parity.experiment.names import CELLS
from rnn_parity.experiment.vocabulary import Dtype
from rnn_parity.findings import life_rates, rates
from rnn_parity.tables import write_text
from rnn_parity.timing.environment import describe_environment
from rnn_parity.trust.lives import examine_lives
from rnn_parity.trust.run import examine_in_parallel

KEPT = PROJECT / "src/rnn_parity/findings/kept"
CASES, LIVES, PROCESSES = 500, 1, 2


def measure() -> Iterator[Result]:
    """Try every kind of cell in every dtype, and write the tables that the package is shipped with."""
    dtypes = list(Dtype)
    tables: dict[str, list[pd.DataFrame]] = {"detection": [], "false_alarms": [], "lives": []}
    for cell in CELLS:
        found = _all(examine_in_parallel("cpu", dtypes, CASES, PROCESSES, cell))
        tables["detection"].append(rates.detection(found))
        tables["false_alarms"].append(rates.false_alarms(found))
        caught, alarms = rates.totals(tables["detection"][-1]), tables["false_alarms"][-1]
        share = 100 * caught["caught"].sum() / caught["judged"].sum()
        yield Result(f"{cell}: planted faults caught", share, "%", at_least=98)
        rate = 1000 * alarms["alarms"].sum() / alarms["comparisons"].sum()
        yield Result(f"{cell}: false alarms in 1,000 comparisons", rate, "", at_most=1)
        lived = _all(examine_lives("cpu", dtypes, LIVES, PROCESSES, cell, spread=True))
        lived = lived.sort_values("implementation", kind="stable")
        tables["lives"].append(life_rates.life_counts(lived))
        (total,) = life_rates.totals(tables["lives"][-1]).to_dict("records")
        yield Result(f"{cell}: faults of the life caught", 100 * total["caught"] / total["lives"], "%", at_least=95)
        rate = 1000 * total["alarms"] / total["right_calls"]
        yield Result(f"{cell}: false alarms in 1,000 calls of a life", rate, "", at_most=1)
        for name, parts in tables.items():  # after every kind: hours of work are not to be lost
            write_text(KEPT / f"{name}.csv", pd.concat(parts).to_csv(index=False))
    settings = [{"device": "cpu", "dtype": str(dtype), "tf32": False, "threads": 1} for dtype in dtypes]
    write_text(KEPT / "environment.json", json.dumps(describe_environment(settings), indent=2) + "\n")


def _all(parts: tuple[int, Iterator[list[dict]]]) -> pd.DataFrame:
    """One table, in the order of dtypes and seeds, whatever part is done first."""
    order = {str(dtype): place for place, dtype in enumerate(Dtype)}
    table = pd.DataFrame([row for part in parts[1] for row in part])
    return table.iloc[sorted(range(len(table)), key=lambda k: (order[table["dtype"][k]], table["seed"][k]))]
