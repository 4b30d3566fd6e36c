"""The Python library: unlearn and judge one's own models, and run suites, from a notebook.

``import unlearn_bench`` offers all of it by name and loads none of it before it is used. Whatever
is computed here, the command computes by the same code.
"""
