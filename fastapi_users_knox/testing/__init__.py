"""Tools for tests: the contract of a token store as a pytest suite, and helpers for a store's own tests."""

from fastapi_users_knox.testing.contract import OpenStore, TokenStoreContract, new_digest, new_record

__all__ = ["OpenStore", "TokenStoreContract", "new_digest", "new_record"]
