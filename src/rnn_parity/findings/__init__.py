"""What the tables say: answers, verdicts, speedups, capabilities. Pure pandas: tables in, facts out."""
