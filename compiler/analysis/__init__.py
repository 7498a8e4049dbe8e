"""Analysis: what a pattern means for the flow of information, exactly and at real lengths.

`report.py` collects everything; `stack.py` says what is looked at and `intended.py` which pairs are
meant to meet. The engines are `by_zones.py` (closed form, any length), `search.py` (from many
positions at once) and `walk.py` (from one); `reach.py` chooses among them. networkx and SciPy are
imported only by the functions that need them.
"""
