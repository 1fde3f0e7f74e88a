"""How a probe is run: nothing that it prints, warns, draws or sets is seen outside, and its error becomes one line."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

import torch

from rnn_parity.experiment.grid import Case
from rnn_parity.layers.running import numerics

LONGEST_LINE = 200

_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


@contextmanager
def isolated(case: Case) -> Iterator[None]:
    """Run under seed 0 with the case's threads, in silence; leave generators and settings as they were."""
    devices = [torch.cuda.current_device()] if case.device == "cuda" else []
    silenced = logging.root.manager.disable
    with (
        torch.random.fork_rng(devices),
        numerics(case.threads, case.tf32),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        mock.patch.dict(os.environ),  # put back as it was: the compiler writes to it
    ):
        warnings.simplefilter("ignore")
        logging.disable()
        torch.manual_seed(0)
        try:
            yield
        finally:
            logging.disable(silenced)


def one_line(error: BaseException) -> str:
    """`RuntimeError: the first line of the message`, without what differs from run to run: folders and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = ": ".join([type(error).__name__, *lines[:1]])
    return shortened(_ADDRESS.sub("0x…", _FOLDERS.sub("", text)))


def shortened(text: str) -> str:
    """The text, cut to the longest line that a table shows."""
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"
