"""t2vec: the recurrent layer inside the decoder of Li et al. 2018, the first workload from outside the core."""

from rnn_parity.experiment.workloads import Extra, WorkloadEntry

DECODER = WorkloadEntry(
    name="decoder",
    factory="rnn_parity_t2vec.workload:Decoder",
    regimes=("eval", "train_matched_masks"),
    settings="rnn_parity_t2vec.settings:DecoderSettings",
    check_axes="rnn_parity_t2vec.settings:check_axes",
    extras={
        "attribution": Extra(
            "rnn_parity_t2vec.tables:ATTRIBUTION", "rnn_parity_t2vec.attribution:attribution_rows", timed=True
        ),
        "training": Extra(
            "rnn_parity_t2vec.tables:TRAINING",
            "rnn_parity_t2vec.training:training_rows",
            histories="rnn_parity_t2vec.histories:loss_histories",
        ),
        "generation": Extra("rnn_parity_t2vec.tables:GENERATION", "rnn_parity_t2vec.generation:generation_rows"),
    },
    section="rnn_parity_t2vec.report.section:section",
    figures="rnn_parity_t2vec.report:FIGURES",
    plot="rnn_parity_t2vec.report.figures:plot_all",
)
