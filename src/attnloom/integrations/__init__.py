"""Patterns inside other libraries; each module is imported by its name and needs its library."""
