"""From one case to rows of the equivalence table: reference, run, criterion, verdict."""
