"""Models and how they are trained: architectures fitted to the data, and the one training loop."""
