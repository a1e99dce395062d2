"""Serve django-rest-knox, in its own virtual environment and database schema."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copy

from sqlalchemy import make_url

from benchmarks.sites import ROOT, Site, command_in, serving
from tests.servers import ServerUnavailable

REQUIREMENTS = ROOT / "benchmarks/django/requirements.txt"
VENV = ROOT / "build/django"
PYTHON = VENV / "bin/python"


@contextmanager
def django_rest_knox(url: str) -> Iterator[Site]:
    """Log a user in, and serve with one synchronous worker of gunicorn.

    Raises:
        ServerUnavailable: The virtual environment cannot be created.
    """
    install()
    environment = _environment(url)
    token = _output(*command_in(environment, PYTHON, "-m", "benchmarks.django.login"))
    gunicorn = (PYTHON, "-m", "gunicorn", "--workers=1", "--worker-class=sync", "--log-level=warning")
    command = command_in(environment, *gunicorn, "django.core.wsgi:get_wsgi_application()")
    with serving(command, port_option="--bind=127.0.0.1:{}", token=token) as site:
        yield site


def install() -> None:
    """Create the virtual environment, unless it exists and has exactly these packages.

    Raises:
        ServerUnavailable: The packages cannot be installed.
    """
    installed = VENV / REQUIREMENTS.name
    if installed.exists() and installed.read_bytes() == REQUIREMENTS.read_bytes():
        return
    try:
        _output(sys.executable, "-m", "venv", "--clear", VENV)
        _output(PYTHON, "-m", "pip", "--quiet", "--retries=1", "install", "--requirement", REQUIREMENTS)
    except subprocess.CalledProcessError as failed:
        raise ServerUnavailable(f"django-rest-knox: {failed.stderr}") from failed
    copy(REQUIREMENTS, installed)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _environment(url: str) -> Mapping[str, str]:
    """Return the environment variables that name Django's settings, and the database and schema for libpq."""
    database = make_url(url)
    return {
        "DJANGO_SETTINGS_MODULE": "benchmarks.django.settings",
        "PGHOST": str(database.host),
        "PGPORT": str(database.port),
        "PGUSER": str(database.username),
        "PGDATABASE": str(database.database),
        "PGOPTIONS": "--search_path=django",
    }
