"""What runs: one file = one task = one verb. A job reads tables, calls a stage and writes tables."""
