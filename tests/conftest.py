"""Shapes in the signatures are checked at run time in every test."""

from pathlib import Path

from jaxtyping import install_import_hook

PROJECT = Path(__file__).parents[1]

install_import_hook("rnn_parity", "beartype.beartype")
