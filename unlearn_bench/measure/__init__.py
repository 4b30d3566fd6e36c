"""What is measured of a model: outputs, probes, metrics, and what unlearning cost."""
