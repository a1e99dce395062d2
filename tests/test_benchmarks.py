"""The benchmarks run, and what they measure in bytes, which no busy machine can change, keeps within its bound."""

from benchmarks import redis_memory
from tests.servers import skip_if_unavailable


def test_a_token_in_redis_takes_450_bytes_at_most() -> None:
    """A token, its place in the index and its last use included, stays within the bound; ours is no plain key."""
    with skip_if_unavailable():
        figures = redis_memory.main(900)

    assert figures["RedisStrategy"] < figures["RedisTokenStore"] <= 450
