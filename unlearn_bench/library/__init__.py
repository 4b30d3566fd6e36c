"""The Python library: unlearn and evaluate your own models, and run suites, from a notebook.

``import unlearn_bench`` offers all of it by name and loads each part when it is first used. The
command line runs the same code.
"""
