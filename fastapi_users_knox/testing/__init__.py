"""What helps to test: the contract suite for token stores, as pytest tests."""

from fastapi_users_knox.testing.contract import OpenStore, TokenStoreContract, new_digest, new_record

__all__ = ["OpenStore", "TokenStoreContract", "new_digest", "new_record"]
