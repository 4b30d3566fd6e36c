"""Trained and unlearned models on disk: the layout of the files, the store, and its upkeep."""
