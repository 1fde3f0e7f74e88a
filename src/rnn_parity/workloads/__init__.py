"""The interface between a workload and what is done with any: compared, timed and shown."""
