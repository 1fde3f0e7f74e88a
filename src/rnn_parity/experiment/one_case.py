"""The one case of a check without a config, of the function, of the command and of a bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import Case, make_grid

_SECTIONS = re.compile(r"^(defaults|equivalence|sweeps\.check)\.")


def make_case_of_check(
    baseline: str, candidate: str, device: str, axes: Mapping[str, Any], seeds: Sequence[int], regimes: Sequence[str]
) -> Case:
    """The case of a check without a config, checked as that of an experiment would be; the message names the axis."""
    config = {"study": "check", "baseline": baseline, "candidates": [candidate], "device": device, "defaults": axes}
    config |= {"sweeps": {"check": {}}, "equivalence": {"seeds": list(seeds), "regimes": list(regimes)}}
    try:
        return make_grid(config).cases[0]
    except InputError as error:
        raise InputError(_SECTIONS.sub("", str(error))) from error
