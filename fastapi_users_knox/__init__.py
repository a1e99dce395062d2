"""Hashed opaque tokens for FastAPI-Users."""
__version__ = "0.1.0"
