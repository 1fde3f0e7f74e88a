"""What the table of capabilities says: where the layers part, and what a candidate cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def capability_rows(capabilities: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per device × capability: its `title`, the rows of the table `by_name`, and whether they `part` there.

    They part where one can do what another cannot, or where both can and their numbers are not the same.
    """
    rows = []
    for (device, _), group in capabilities.groupby(["device", "capability"], sort=False):
        by_name = {row["implementation"]: row for row in group.to_dict("records")}
        part = group["outcome"].nunique() > 1 or any(row["agrees"] is False for row in by_name.values())
        rows.append({"device": device, "title": group["title"].iloc[0], "by_name": by_name, "part": part})
    return rows


def lost_capabilities(rows: list[dict[str, Any]], baseline: str, candidate: str) -> list[str]:
    """The titles of what the baseline can do and the candidate cannot, or not with the same numbers."""
    lost = [row["title"] for row in rows if is_lost(row["by_name"][baseline], row["by_name"][candidate])]
    return list(dict.fromkeys(lost))


def is_lost(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether the baseline's row of a capability works and the candidate's does not, or with other numbers."""
    return ours["outcome"] == "works" and (theirs["outcome"] != "works" or theirs["agrees"] is False)
