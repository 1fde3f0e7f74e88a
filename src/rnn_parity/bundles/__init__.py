"""A `no` in a folder: everything that another machine needs to run the check again."""
