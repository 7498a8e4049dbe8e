"""The bundled patterns as a collection: where each is looked at, what is found, and the gallery.

`python -m attnloom.library` builds the gallery and the facts that `attnloom list` shows.
"""
