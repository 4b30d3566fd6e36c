"""What a method has in hand: its context, and the mechanics that methods share.

Methods reach all of it through `unlearn_bench.api`.
"""
