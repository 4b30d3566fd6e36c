"""The audit of one unlearned model, for people who must answer for it to others.

A benchmark ranks methods; an audit states what attacks on this model found, how far they can be
trusted, and what nobody looked at. ``exposure`` holds the statistics, ``examine`` looks at the
models, ``statement`` is what is said of them, and ``page`` and ``prose`` print it.
"""
