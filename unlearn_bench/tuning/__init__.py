"""Tuning: the same chance for every method, on surrogates of what it will have to forget.

``study.py`` says which runs come next and what they showed, ``sampler.py`` which settings are
tried, ``choice.py`` which of them is taken. The runs themselves go through the scheduler as all
runs do; what they may look at is decided in ``execution/trials.py``.
"""
