"""Measure how long the import of the package takes, each time in a new process, and which extras it imports."""

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping

from benchmarks.measure import Scale, Series, Servers
from benchmarks.sites import ROOT

CASE = "import"
GROUP = "in a new process"
PACKAGE = "fastapi_users_knox, after fastapi_users"
OWN_EXTRAS = ("fastapi_users_knox.sqlalchemy", "fastapi_users_knox.redis", "fastapi_users_knox.testing")
EXTRAS = (*OWN_EXTRAS, "sqlalchemy", "redis", "fastapi_users_db_sqlalchemy")
"""What must not be imported unless the application asks for it, with everything below."""

IMPORTS: Mapping[str, tuple[str, str]] = {
    "fastapi_users": ("", "import fastapi_users"),
    PACKAGE: ("import fastapi_users", "import fastapi_users_knox"),
    "the store over SQL, after SQLAlchemy": (
        "import fastapi_users_knox, fastapi_users_db_sqlalchemy",
        "import fastapi_users_knox.sqlalchemy",
    ),
    "the store over Redis, after redis-py": (
        "import fastapi_users_knox, redis.asyncio",
        "import fastapi_users_knox.redis",
    ),
}
"""For each subject, what is imported before, and the import that is timed."""

_TIMED = "from time import perf_counter\n{}\nbegan = perf_counter()\n{}\nprint(1000 * (perf_counter() - began))"
# FastAPI-Users imports SQLAlchemy and redis-py itself if they are installed.
_LIST = """
import sys
import fastapi_users.authentication
before = set(sys.modules)
import fastapi_users_knox
print(*(set(sys.modules) - before))
"""


def measure(_servers: Servers, scale: Scale) -> Iterator[Series]:
    """Take turns between the imports, each in a new process; the first turn, which writes bytecode, does not count."""
    took: dict[str, list[float]] = {subject: [] for subject in IMPORTS}
    for number in range(scale.rounds + 1):
        for subject in random.sample(sorted(IMPORTS), len(IMPORTS)):
            milliseconds = float(_output(_TIMED.format(*IMPORTS[subject])))
            if number:
                took[subject].append(milliseconds)
    for subject, values in took.items():
        yield Series(case=CASE, group=GROUP, subject=subject, unit="ms", values=tuple(values))
    yield Series(case=CASE, group=GROUP, subject=PACKAGE, unit="modules of extras", values=(len(unasked()),))


def unasked() -> list[str]:
    """Return the modules of extras that the import of the package imports, and that of FastAPI-Users does not."""
    return [
        module
        for module in _output(_LIST).split()
        if any(module == extra or module.startswith(f"{extra}.") for extra in EXTRAS)
    ]


def _output(program: str) -> str:
    """Run a program with the interpreter of this process, and return what it prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
