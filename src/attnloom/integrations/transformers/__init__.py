"""Patterns in models of Hugging Face Transformers; see `docs/models.md`."""

from attnloom.integrations.transformers.bigbird import convert_bigbird
from attnloom.integrations.transformers.cache import PatternCache
from attnloom.integrations.transformers.longformer import convert_longformer
from attnloom.integrations.transformers.registration import register, use

__all__ = ["PatternCache", "convert_bigbird", "convert_longformer", "register", "use"]
