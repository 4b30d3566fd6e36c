"""What is asked for: suites and runs as frozen specifications, read from YAML and flags."""
