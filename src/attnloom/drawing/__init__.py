"""Drawings of an analysis, as SVG and as one HTML page; nothing to install, nothing to load."""
