"""Mechanics that methods share, each once: modes, teachers, masks, gradients, attacks, layers.

Methods reach them through `unlearn_bench.api`, which names all of them.
"""
