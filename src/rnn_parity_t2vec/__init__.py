"""t2vec: the recurrent layer inside the decoder of Li et al. 2018, the first workload from outside the core."""
