"""The bounds that the measurements have to meet."""

from collections.abc import Iterator
from functools import partial

from benchmarks import growth, holding, imports, pools, purging, refreshes
from benchmarks.logins import LIMITED
from benchmarks.peers import DATABASE, DJANGO_REST_KNOX, JWT, KNOX_REDIS, KNOX_SQL, RECORD_ALONE, REDIS, SLIDING
from benchmarks.reads import FLOOR, REDIS_FLOOR
from benchmarks.statements import LOGOUT_ALL_OF_MANY
from benchmarks.verdicts import Bound

_JUNK = ("as long as a token", "one character changed", "empty", "somebody else's JWT", "10 kB")


def _reads(kind: str = "", with_kind: str = "") -> Iterator[Bound]:
    """Bound the reads without or with `auto_refresh`."""
    sql, redis = KNOX_SQL + kind, KNOX_REDIS + kind
    over_sql, over_redis = f"A read over SQL{with_kind}", f"A read over Redis{with_kind}"
    read = partial(Bound, case="read")
    yield read(
        promise=f"{over_sql} takes at most {{}} times as long as its floor",
        of=sql,
        to=FLOOR,
        at_most={"PostgreSQL": 1.1, "SQLite": 1.25, "MariaDB": 1.2},
    )
    yield read(
        promise=f"{over_sql} is at least {{}} times as fast as `JWTStrategy`'s",
        of=JWT,
        to=sql,
        at_least={"PostgreSQL": 1.5, "SQLite": 1.35},
    )
    yield read(
        promise=f"{over_sql} is at least {{}} times as fast as `DatabaseStrategy`'s",
        of=DATABASE,
        to=sql,
        at_least={"PostgreSQL": 2, "SQLite": 1.8},
    )
    yield read(
        promise=f"{over_redis} takes at most {{}} times as long as its floor",
        of=redis,
        to=REDIS_FLOOR,
        at_most={"PostgreSQL": 1.12, "SQLite": 1.25},
    )
    yield read(
        promise=f"{over_redis} is at least {{}} times as fast as `RedisStrategy`'s",
        of=REDIS,
        to=redis,
        at_least={"PostgreSQL": 1.15, "SQLite": 1},
    )
    yield read(
        promise=f"{over_redis} is at least {{}} times as fast as `JWTStrategy`'s",
        of=JWT,
        to=redis,
        at_least={"PostgreSQL": 1.08},
    )


def _record_alone(store: str, subject: str, at_least: float) -> Bound:
    return Bound(
        promise=f"A read over {store} with `load_user=False` is at least {{}} times as fast as `JWTStrategy`'s",
        case="read",
        of=JWT,
        to=subject + RECORD_ALONE,
        at_least={"PostgreSQL": at_least, "SQLite": at_least},
    )


def _over_http(store: str, subject: str, **at_least: float) -> Iterator[Bound]:
    peers = {JWT: "`JWTStrategy`", DATABASE: "`DatabaseStrategy`", DJANGO_REST_KNOX: DJANGO_REST_KNOX}
    for (peer, name), number in zip(peers.items(), at_least.values(), strict=True):
        yield Bound(
            promise=f"With tokens in {store}, at least {{}} times as many requests a second are served as with {name}",
            case="request over HTTP",
            of=subject,
            to=peer,
            unit="requests/s",
            at_least={"PostgreSQL": number},
        )


_login = partial(Bound, case="login", to=DATABASE)
_shared_pool = partial(Bound, case=pools.CASE, of=pools.SOME_DUE, to=pools.NONE_DUE)
_junk = partial(Bound, case="junk", of=KNOX_SQL)
_logout_all = partial(Bound, case="statements", of=LOGOUT_ALL_OF_MANY)
_of_many = partial(Bound, case=growth.USER, of=growth.of_user(10_000), to=growth.of_user(1))

BOUNDS = (
    *_reads(),
    *_reads(SLIDING, " with `auto_refresh`"),
    _record_alone("SQL", KNOX_SQL, 1.8),
    _record_alone("Redis", KNOX_REDIS, 2.5),
    *_over_http("SQL", KNOX_SQL, jwt=1.3, database=1.6, django_rest_knox=1.9),
    *_over_http("Redis", KNOX_REDIS, jwt=1.15, database=1.4, django_rest_knox=1.7),
    Bound(
        promise="A read with a refresh due takes at most {} times as long as one without",
        case=refreshes.CASE,
        of=refreshes.DUE,
        to=refreshes.NOT_DUE,
        at_most={"PostgreSQL": 2},
    ),
    _shared_pool(
        promise="Refreshes increase the p99 of 64 connections that share a pool of 15 at most {} times",
        unit="ms, p99",
        at_most={pools.LARGE: 1.2},
    ),
    _shared_pool(
        promise="Refreshes increase the share of requests that an exhausted pool refuses at most {} times",
        unit="% refused with 503",
        at_most={pools.SMALL: 1.2},
    ),
    _login(
        promise="A login without a limit takes at most {} times as long as with `DatabaseStrategy`",
        of=KNOX_SQL,
        at_most={"PostgreSQL": 1.3, "SQLite": 1.3},
    ),
    _login(
        promise="A login under a limit takes at most {} times as long as with `DatabaseStrategy`",
        of=KNOX_SQL + LIMITED,
        at_most={"PostgreSQL": 1.6, "SQLite": 1.6},
    ),
    _login(
        promise="A login with the hashing of the password takes at most {} times as long as with `DatabaseStrategy`",
        case="login, password hashing included",
        of=KNOX_SQL,
        at_most={"PostgreSQL": 1.05, "SQLite": 1.05},
    ),
    Bound(
        promise="A read among 1,000,000 tokens takes at most {} times as long as one among 1,000",
        case=growth.TABLE,
        of=growth.of_table(1_000_000),
        to=growth.of_table(1000),
        at_most={"PostgreSQL: read": 1.2, "Redis: read": 1.2},
    ),
    _of_many(
        promise="A login of a user with 10,000 live tokens takes at most {} times as long as one with 1",
        at_most={f"{store}: login": 1.5 for store in ("SQLite", "PostgreSQL", "MariaDB", "Redis")},
    ),
    _of_many(
        promise="A logout of a user with 10,000 live tokens takes at most {} times as long as one with 1",
        at_most={"Redis: logout": 1.5},
    ),
    Bound(
        promise="With 10,000 live tokens of the user, no command holds Redis longer than {} ms",
        case=holding.CASE,
        of=growth.of_user(10_000),
        at_most={f"Redis: {verb}": 5 for verb in holding.VERBS},
    ),
    Bound(
        promise="During a purge of 1,000,000 tokens, the p99 of reads is at most {} times that without a purge",
        case=purging.CASE,
        of=purging.during(1_000_000),
        to=purging.ALONE,
        at_most={purging.READS: 2},
    ),
    Bound(
        promise="A purge deletes at least {} tokens a second",
        case=purging.CASE,
        of=KNOX_SQL,
        unit="tokens/s",
        at_least={purging.PURGE: 31_000},
    ),
    _junk(promise="An invalid token is refused within {} µs", unit="µs", at_most=dict.fromkeys(_JUNK, 5)),
    _junk(promise="An invalid token is refused without a query", unit="statements", at_most=dict.fromkeys(_JUNK, 0)),
    _logout_all(
        promise="A logout-all is {} statement, however many tokens there are",
        unit="statements",
        at_most=dict.fromkeys(("SQLite", "PostgreSQL", "MariaDB"), 1),
    ),
    _logout_all(
        promise="A logout-all of up to 100 tokens takes {} round trips to Redis, one of them its script",
        unit="round trips",
        at_most={"Redis": 2},
    ),
    Bound(
        promise="A token takes at most {} bytes, including its place in the index and its last use",
        case="memory",
        of=KNOX_REDIS,
        unit="bytes",
        at_most={"Redis": 450},
    ),
    Bound(
        promise="The import of the package takes at most {} ms more than that of FastAPI-Users",
        case=imports.CASE,
        of=imports.PACKAGE,
        at_most={imports.GROUP: 15},
    ),
    Bound(
        promise="The import of the package imports none of its extras",
        case=imports.CASE,
        of=imports.PACKAGE,
        unit="modules of extras",
        at_most={imports.GROUP: 0},
    ),
)
