"""From the tables to pictures and prose."""
