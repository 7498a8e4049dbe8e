"""Modules for PyTorch models: attention along a pattern, memory tokens, and small models."""

from attnloom.nn.attention import PatternAttention
from attnloom.nn.memory import MemoryTokens
from attnloom.nn.models import Decoder, Encoder
from attnloom.nn.rope import Rope

__all__ = ["Decoder", "Encoder", "MemoryTokens", "PatternAttention", "Rope"]
