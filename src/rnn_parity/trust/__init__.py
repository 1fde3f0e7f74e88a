"""The check, tried on itself: right layers that it must not accuse, planted faults that it must catch."""
