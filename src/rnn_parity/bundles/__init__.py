"""A `no` that travels: written to a folder, and asked again on another machine."""
