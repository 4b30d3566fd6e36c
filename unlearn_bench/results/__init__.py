"""Results on disk: one JSON record per run, `records.csv`, and the curves. Free of torch."""
