"""One layer over many calls: what a fresh module's first call cannot show."""
