"""Whole models in which a layer is replaced: t2vec, its losses, and what it generates."""
