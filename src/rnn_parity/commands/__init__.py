"""The command line: one command per rule of the workflow, and some for people."""
