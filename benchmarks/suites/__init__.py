"""Named suites, one YAML file each; `unlearn-bench list suites` shows them."""
