"""Differences in the table of capabilities, and the capabilities that a candidate would lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

CONDITIONS = {
    "torch_export": "it is not exported by `torch.export`",
    "onnx_export": "it is not exported to ONNX",
    "torch_compile": "it is not compiled by `torch.compile`",
    "torch_compile_fullgraph": "it is not compiled by `torch.compile`",
    "cuda_graph": "it is not captured as a CUDA graph",
    "gradient_checkpointing": "its gradients are not checkpointed",
    "vmap": "it is not called under `torch.func.vmap`",
    "per_sample_gradients": "no gradients of single samples are taken by `torch.func.vmap`",
}
"""What must not be done with a layer that gives wrong results there. The life has conditions for all else."""


def wrong_capabilities(capabilities: pd.DataFrame | None, candidate: str) -> tuple[str, ...]:
    """What must not be done with a candidate, because it gives wrong results there; nothing where none was probed."""
    if capabilities is None:
        return ()
    wrong = capabilities[(capabilities["implementation"] == candidate) & (capabilities["outcome"] == "wrong")]
    return tuple(dict.fromkeys(CONDITIONS[name] for name in wrong["capability"] if name in CONDITIONS))


def capability_rows(capabilities: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per device × kind × baseline × capability: its `title`, the rows of the table `by_name`, and `differs`.

    `differs`: the outcomes are not the same, or the numbers do not agree.
    """
    rows = []
    keys = ["device", "cell", "baseline", "capability"]
    for (device, cell, baseline, _), group in capabilities.groupby(keys, sort=False):
        by_name = {row["implementation"]: row for row in group.to_dict("records")}
        differs = group["outcome"].nunique() > 1 or any(row["agrees"] is False for row in by_name.values())
        row = {"device": device, "cell": cell, "baseline": baseline, "title": group["title"].iloc[0]}
        rows.append({**row, "by_name": by_name, "differs": differs})
    return rows


def lost_capabilities(rows: list[dict[str, Any]], baseline: str, candidate: str) -> list[str]:
    """The titles of the capabilities that the candidate would lose; a wrong one may be a condition instead."""
    own = [row for row in rows if row["baseline"] == baseline and candidate in row["by_name"]]
    lost = [row["title"] for row in own if _lacks(row["by_name"][baseline], row["by_name"][candidate])]
    return list(dict.fromkeys(lost))


def _lacks(of_baseline: Mapping[str, Any], of_candidate: Mapping[str, Any]) -> bool:
    excused = of_candidate["outcome"] == "wrong" and of_candidate["capability"] in CONDITIONS
    return loses_capability(of_baseline, of_candidate) and not excused


def loses_capability(of_baseline: Mapping[str, Any], of_candidate: Mapping[str, Any]) -> bool:
    """Whether the baseline has a capability, and the candidate has it not or gives other numbers."""
    return of_baseline["outcome"] == "works" and (of_candidate["outcome"] != "works" or of_candidate["agrees"] is False)
