"""From one case to rows of the timing table: rounds, clocks, costs, conditions, roofline."""
