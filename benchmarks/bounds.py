"""What is to be reached."""

from dataclasses import dataclass
from math import inf

from benchmarks.logins import LIMITED
from benchmarks.peers import DATABASE, DJANGO_REST_KNOX, JWT, KNOX_REDIS, KNOX_SQL, REDIS
from benchmarks.reads import FLOOR, REDIS_FLOOR
from benchmarks.statements import LOGOUT_ALL_OF_MANY

_HERE = ("SQLite", "PostgreSQL")
_JUNK = ("as long as a token", "one character changed", "empty", "a JWT of others", "10 kB")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What is to be reached: by one figure, or by how many times it is another of the same run.

    Attributes:
        promise: It in plain words, with `{}` where its number stands.
        case: The `Series.case` of both figures.
        groups: In which groups.
        of: Whose figure: its subject.
        to: By whose figure it is divided, round by round; `None`: it is judged by itself.
        unit: Of both figures.
        at_most: What the median may be.
        at_least: What the median has to be.
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


BOUNDS = (
    Bound(
        promise="A read over SQL takes at most {} times what its floor takes",
        case="read",
        groups=_HERE,
        of=KNOX_SQL,
        to=FLOOR,
        at_most=1.15,
    ),
    Bound(
        promise="A read over SQL is at least {} times as fast as `JWTStrategy`'s",
        case="read",
        groups=_HERE,
        of=JWT,
        to=KNOX_SQL,
        at_least=1.5,
    ),
    Bound(
        promise="A read over SQL is at least {} times as fast as `DatabaseStrategy`'s",
        case="read",
        groups=_HERE,
        of=DATABASE,
        to=KNOX_SQL,
        at_least=2.1,
    ),
    Bound(
        promise="A read over Redis takes at most {} times what its floor takes",
        case="read",
        groups=_HERE,
        of=KNOX_REDIS,
        to=REDIS_FLOOR,
        at_most=1.15,
    ),
    Bound(
        promise="A read over Redis is at least {} times as fast as `RedisStrategy`'s",
        case="read",
        groups=_HERE,
        of=REDIS,
        to=KNOX_REDIS,
        at_least=1.2,
    ),
    Bound(
        promise="A read over Redis is at least {} times as fast as `JWTStrategy`'s",
        case="read",
        groups=_HERE,
        of=JWT,
        to=KNOX_REDIS,
        at_least=1.15,
    ),
    Bound(
        promise="Over HTTP, at least {} times the requests of `JWTStrategy` are served",
        case="request over HTTP",
        groups=("PostgreSQL",),
        of=KNOX_SQL,
        to=JWT,
        unit="requests/s",
        at_least=1.3,
    ),
    Bound(
        promise="Over HTTP, at least {} times the requests of `DatabaseStrategy` are served",
        case="request over HTTP",
        groups=("PostgreSQL",),
        of=KNOX_SQL,
        to=DATABASE,
        unit="requests/s",
        at_least=1.6,
    ),
    Bound(
        promise="Over HTTP, at least {} times the requests of django-rest-knox are served",
        case="request over HTTP",
        groups=("PostgreSQL",),
        of=KNOX_SQL,
        to=DJANGO_REST_KNOX,
        unit="requests/s",
        at_least=1.9,
    ),
    Bound(
        promise="A login without a limit takes at most {} times what `DatabaseStrategy`'s takes",
        case="login",
        groups=_HERE,
        of=KNOX_SQL,
        to=DATABASE,
        at_most=1.3,
    ),
    Bound(
        promise="A login under a limit takes at most {} times what `DatabaseStrategy`'s takes",
        case="login",
        groups=_HERE,
        of=KNOX_SQL + LIMITED,
        to=DATABASE,
        at_most=1.6,
    ),
    Bound(
        promise="A login takes at most {} times what `DatabaseStrategy`'s takes, if the password is hashed in it",
        case="login, password hashing included",
        groups=_HERE,
        of=KNOX_SQL,
        to=DATABASE,
        at_most=1.05,
    ),
    Bound(
        promise="A read among 1,000,000 tokens takes at most {} times what one among 1,000 takes",
        case="growth of the table",
        groups=("PostgreSQL: read", "Redis: read"),
        of="1,000,000 tokens",
        to="1,000 tokens",
        at_most=1.2,
    ),
    Bound(
        promise="A login of a user with 10,000 live tokens takes at most {} times what one with 1 takes",
        case="growth of one user",
        groups=("SQLite: login", "PostgreSQL: login", "MariaDB: login", "Redis: login"),
        of="10,000 live tokens",
        to="1 live token",
        at_most=1.5,
    ),
    Bound(
        promise="A text that is no token is refused within {} µs",
        case="junk",
        groups=_JUNK,
        of=KNOX_SQL,
        unit="µs",
        at_most=5,
    ),
    Bound(
        promise="A text that is no token is refused without asking a server",
        case="junk",
        groups=_JUNK,
        of=KNOX_SQL,
        unit="statements",
        at_most=0,
    ),
    Bound(
        promise="A logout-all is {} statement, whatever the count of tokens",
        case="statements",
        groups=(*_HERE, "MariaDB"),
        of=LOGOUT_ALL_OF_MANY,
        unit="statements",
        at_most=1,
    ),
    Bound(
        promise="A logout-all takes {} trips to Redis, one of them its script, whatever the count of tokens",
        case="statements",
        groups=("Redis",),
        of=LOGOUT_ALL_OF_MANY,
        unit="round trips",
        at_most=2,
    ),
    Bound(
        promise="A token takes at most {} bytes, its place in the index and its last use included",
        case="memory",
        groups=("Redis",),
        of=KNOX_REDIS,
        unit="bytes",
        at_most=450,
    ),
)
