"""Report the machine of the measurements, and the versions of all programs and packages."""

import asyncio
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.measure import Servers

PACKAGES = (
    "fastapi",
    "fastapi-users",
    "fastapi-users-db-sqlalchemy",
    "SQLAlchemy",
    "aiosqlite",
    "asyncpg",
    "asyncmy",
    "redis",
    "hiredis",
    "PyJWT",
    "uvicorn",
    "uvloop",
    "httptools",
)


def facts(servers: Servers) -> dict[str, str]:
    """Return the facts that the figures depend on, without the name or the addresses of the machine."""
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{gibibytes:.0f} GiB",
        "load before the run": f"{os.getloadavg()[0]:.1f}",
        "system": _system(),
        "Python": platform.python_version(),
    }
    return machine | asyncio.run(_servers(servers)) | {name: version(name) for name in PACKAGES}


def _processor() -> str:
    """Return the model of the processor, if the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return models[0] if models else platform.machine()


def _system() -> str:
    """Return the distribution, if the system reports it."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


async def _servers(servers: Servers) -> dict[str, str]:
    versions = {name: await _database(url) for name, url in servers.databases.items()}
    return versions if servers.redis is None else versions | await _redis(servers.redis)


async def _database(url: str) -> str:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        parts = connection.dialect.server_version_info or ()
    await engine.dispose()
    return ".".join(str(part) for part in parts[:3])


async def _redis(url: str) -> dict[str, str]:
    async with Redis.from_url(url) as redis:
        info = await redis.info("server")
    return {"Valkey": info["valkey_version"]} if "valkey_version" in info else {"Redis": info["redis_version"]}
