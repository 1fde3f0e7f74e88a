"""Trajectories: walked through a made-up city, or read from a file, in batches."""
