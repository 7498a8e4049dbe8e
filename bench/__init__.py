"""Measurements side by side, on one machine and in one run: `python -m bench`."""
