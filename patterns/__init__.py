"""The library of bundled patterns, one named pattern a file.

The `.attn` files are package data, found with `importlib.resources`. This module stays empty; it
exists because an editable install does not see a folder without it.
"""
