"""Counting tokens in Redis, while the records of some users at a time pass by."""

from collections import Counter
from heapq import nlargest

from fastapi_users_knox.records.statistics import SPANS, AudienceCount, Liveness, Statistics, span_of
from fastapi_users_knox.redis.keys import Keys
from fastapi_users_knox.redis.scripts import Client
from fastapi_users_knox.redis.searching import find_records

__all__ = ["count_records"]


async def count_records(client: Client, keys: Keys, liveness: Liveness, *, top: int) -> Statistics:
    """Read all records once, and count them."""
    live, expired, ages, uses = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    users, top_users = 0, list[tuple[int, str]]()
    async for user_id, records in find_records(client, keys):
        number = 0
        for record in records:
            if not liveness.is_live(record):
                expired[record.audience] += 1
                continue
            number += 1
            live[record.audience] += 1
            ages[span_of(liveness.now - record.created_at)] += 1
            uses["never" if record.last_used_at is None else span_of(liveness.now - record.last_used_at)] += 1
        users += number > 0
        top_users = nlargest(top, [*top_users, (number, user_id)])
    return Statistics(
        audiences={name: AudienceCount(live=live[name], expired=expired[name]) for name in sorted({*live, *expired})},
        ages={name: ages[name] for name in SPANS},
        uses={name: uses[name] for name in (*SPANS, "never")},
        users=users,
        top_users=[(user_id, number) for number, user_id in top_users if number],
    )
