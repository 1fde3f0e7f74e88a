"""The decoder's part of the report: what its tables say, its figures and its section."""
