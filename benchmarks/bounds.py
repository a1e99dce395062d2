"""The bounds that the measurements have to meet."""

from dataclasses import dataclass
from functools import partial
from math import inf

from benchmarks.logins import LIMITED
from benchmarks.peers import DATABASE, DJANGO_REST_KNOX, JWT, KNOX_REDIS, KNOX_SQL, REDIS
from benchmarks.reads import FLOOR, REDIS_FLOOR
from benchmarks.statements import LOGOUT_ALL_OF_MANY

_HERE = ("SQLite", "PostgreSQL")
_JUNK = ("as long as a token", "one character changed", "empty", "somebody else's JWT", "10 kB")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A bound on one figure, or on the ratio of two figures of the same run.

    Attributes:
        promise: The bound in plain words, with `{}` in place of its number.
        case: The `Series.case` of both figures.
        groups: The groups to which the bound applies.
        of: The subject of the figure.
        to: The subject whose figure is the divisor in each round; `None` if the bound is on one figure.
        unit: The unit of both figures.
        at_most: The greatest median that meets the bound.
        at_least: The smallest median that meets the bound.
    """

    promise: str
    case: str
    groups: tuple[str, ...]
    of: str
    to: str | None = None
    unit: str = "ms"
    at_most: float = inf
    at_least: float = 0

    @property
    def sentence(self) -> str:
        """Return the promise with its number."""
        return self.promise.format(f"{self.at_least or self.at_most:g}")


_read = partial(Bound, case="read", groups=_HERE)
_over_http = partial(Bound, case="request over HTTP", groups=("PostgreSQL",), of=KNOX_SQL, unit="requests/s")
_login = partial(Bound, case="login", groups=_HERE, to=DATABASE)
_junk = partial(Bound, case="junk", groups=_JUNK, of=KNOX_SQL)
_logout_all = partial(Bound, case="statements", of=LOGOUT_ALL_OF_MANY)

BOUNDS = (
    _read(promise="A read over SQL takes at most {} times as long as its floor", of=KNOX_SQL, to=FLOOR, at_most=1.15),
    _read(promise="A read over SQL is at least {} times as fast as `JWTStrategy`'s", of=JWT, to=KNOX_SQL, at_least=1.5),
    _read(
        promise="A read over SQL is at least {} times as fast as `DatabaseStrategy`'s",
        of=DATABASE,
        to=KNOX_SQL,
        at_least=2.1,
    ),
    _read(
        promise="A read over Redis takes at most {} times as long as its floor",
        of=KNOX_REDIS,
        to=REDIS_FLOOR,
        at_most=1.15,
    ),
    _read(
        promise="A read over Redis is at least {} times as fast as `RedisStrategy`'s",
        of=REDIS,
        to=KNOX_REDIS,
        at_least=1.2,
    ),
    _read(
        promise="A read over Redis is at least {} times as fast as `JWTStrategy`'s",
        of=JWT,
        to=KNOX_REDIS,
        at_least=1.15,
    ),
    _over_http(
        promise="Over HTTP, at least {} times as many requests are served as with `JWTStrategy`", to=JWT, at_least=1.3
    ),
    _over_http(
        promise="Over HTTP, at least {} times as many requests are served as with `DatabaseStrategy`",
        to=DATABASE,
        at_least=1.6,
    ),
    _over_http(
        promise="Over HTTP, at least {} times as many requests are served as with django-rest-knox",
        to=DJANGO_REST_KNOX,
        at_least=1.9,
    ),
    _login(
        promise="A login without a limit takes at most {} times as long as with `DatabaseStrategy`",
        of=KNOX_SQL,
        at_most=1.3,
    ),
    _login(
        promise="A login under a limit takes at most {} times as long as with `DatabaseStrategy`",
        of=KNOX_SQL + LIMITED,
        at_most=1.6,
    ),
    _login(
        promise="A login with the hashing of the password takes at most {} times as long as with `DatabaseStrategy`",
        case="login, password hashing included",
        of=KNOX_SQL,
        at_most=1.05,
    ),
    Bound(
        promise="A read among 1,000,000 tokens takes at most {} times as long as one among 1,000",
        case="growth of the table",
        groups=("PostgreSQL: read", "Redis: read"),
        of="1,000,000 tokens",
        to="1,000 tokens",
        at_most=1.2,
    ),
    Bound(
        promise="A login of a user with 10,000 live tokens takes at most {} times as long as one with 1",
        case="growth of one user",
        groups=("SQLite: login", "PostgreSQL: login", "MariaDB: login", "Redis: login"),
        of="10,000 live tokens",
        to="1 live token",
        at_most=1.5,
    ),
    _junk(promise="An invalid token is refused within {} µs", unit="µs", at_most=5),
    _junk(promise="An invalid token is refused without a query", unit="statements", at_most=0),
    _logout_all(
        promise="A logout-all is {} statement, however many tokens there are",
        groups=(*_HERE, "MariaDB"),
        unit="statements",
        at_most=1,
    ),
    _logout_all(
        promise="A logout-all takes {} round trips to Redis, one of them its script, however many tokens there are",
        groups=("Redis",),
        unit="round trips",
        at_most=2,
    ),
    Bound(
        promise="A token takes at most {} bytes, including its place in the index and its last use",
        case="memory",
        groups=("Redis",),
        of=KNOX_REDIS,
        unit="bytes",
        at_most=450,
    ),
)
