"""The columns of the decoder's extra tables."""

from rnn_parity.tables import CASE_COLUMNS, schema_of

_CASE = CASE_COLUMNS | {"baseline": str, "implementation": str}

ATTRIBUTION = schema_of(
    _CASE
    | {
        "phase": str,
        "machine": str,
        "way": str,
        "median_s": float,
        "speedup": float,
        "speedup_ci_low": float,
        "speedup_ci_high": float,
        "share": float,
        "share_ci_low": float,
        "share_ci_high": float,
        "conclusion": str,
        "reason": str,
    }
)
"""One row per case × implementation × phase × way of running the decoder (`attribution.VARIANTS`).

`implementation` is the compared layer, also in the ways that keep the baseline's. `speedup` is over the original.
`share` is the part of the time saved by both changes that this one saves alone; null within noise. `conclusion` is that
of input feeding alone."""

TRAINING = schema_of(
    _CASE
    | {
        "role": str,
        "mode": str,
        "seed": int,
        "step": int,
        "loss": float,
        "verdict": str,
        "reason": str,
    }
)
"""One row per training step, `loss` per token; of one that ended early a last row with `verdict` and `reason`. `role`
is baseline, candidate, or perturbed: the baseline from weights one rounding away. `mode`: no_dropout, matched_masks or
own_masks. `seed` of the masks, or of the perturbation."""

GENERATION = schema_of(
    _CASE
    | {
        "sequences": int,
        "tokens": int,
        "different_tokens": int,
        "agreement": float,
        "sequences_alike": int,
        "reason": str,
    }
)
"""One row per case × candidate: of the tokens of greedy decoding, the share that are the baseline's."""
