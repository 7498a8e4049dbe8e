"""Patterns in models of Hugging Face Transformers; see `docs/models.md`."""

from attnloom.integrations.transformers.cache import PatternCache
from attnloom.integrations.transformers.registration import register, use

__all__ = ["PatternCache", "register", "use"]
