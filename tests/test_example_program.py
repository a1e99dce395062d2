"""The example as a program: its output, and the commands that it prints."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from example_app.__main__ import main
from tests.redis_servers import RedisServer
from tests.servers import HOST, ServerUnavailable, skip_if_unavailable
from tests.test_example_app import JANE, PATIENCE

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[1]
TOKEN = re.compile("knox_[0-9A-Za-z]{51}")


def environment(port: int, redis_url: str = "") -> Mapping[str, str]:
    """Return the example's environment variables, with the defaults for all but these."""
    variables = {"PORT": str(port), "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url}
    return {**os.environ, **variables} | dict.fromkeys(("DATABASE_URL", "SECRET"), "")


@contextmanager
def running_example(directory: Path, redis_url: str = "") -> Iterator[list[str]]:
    """Run the example on a free port, and yield the commands that it prints."""
    output = directory / "output"
    with output.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "example_app"],
            cwd=directory,
            env=environment(0, redis_url),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield offered_lines(process, output)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()


def offered_lines(process: subprocess.Popen[bytes], output: Path) -> list[str]:
    """Wait until all five commands are printed, and return them."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        offered = re.findall(r"^(?:\w+=\$\(|curl |for ).*\n", output.read_text(), re.MULTILINE)
        if len(offered) == 5:
            return offered
        time.sleep(0.05)
    raise AssertionError(output.read_text())


def paste(lines: list[str]) -> list[str]:
    """Run the commands in one shell, and return the output of each."""
    script = "echo ----\n".join(lines)
    with skip_if_unavailable():
        if missing := [program for program in ("bash", "curl", "sed") if shutil.which(program) is None]:
            raise ServerUnavailable(f"no {' and no '.join(missing)} on the PATH")
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True, timeout=PATIENCE)
    assert done.stderr == ""
    return done.stdout.split("----\n")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the example, with the output of the pasted commands and of the example itself."""

    pasted: list[str]
    output: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Run the example on a new database, and once more on the same one."""
    directory, runs = tmp_path_factory.mktemp("example"), []
    for _ in range(2):
        with running_example(directory) as lines:
            runs.append(Run(pasted=paste(lines), output=(directory / "output").read_text()))
    return runs


def test_the_lines_work_when_pasted_in_order(runs: list[Run]) -> None:
    """The five printed commands work as described, on a new database and on an existing one."""
    tokens = set()
    for run in runs:
        laptop, greeting, phone, ended, refused = run.pasted
        assert TOKEN.fullmatch(laptop.strip())
        assert TOKEN.fullmatch(phone.strip())
        assert greeting == '{"message":"Hello demo@example.com!"}\n'
        assert ended == "204\n"
        assert refused == '{"detail":"Unauthorized"} 401\n' * 2
        tokens |= {laptop, phone}
    assert len(tokens) == 4


def test_the_administrator_s_login_is_printed(runs: list[Run]) -> None:
    """The example prints where the admin pages are, and who may log in there."""
    for run in runs:
        assert re.search(r"on http://localhost:\d+/admin: log in as admin@example\.com,", run.output)


def test_the_events_are_in_the_output(runs: list[Run]) -> None:
    """The example logs each login and logout, and no token."""
    for run in runs:
        events = [json.loads(line) for line in re.findall(r" INFO fastapi_users_knox\.events: (.*)", run.output)]
        assert [event["event"] for event in events] == ["TokenIssued"] * 2 + ["TokenRevoked"] * 2
        assert run.pasted[0].strip() not in run.output


def test_the_events_are_in_the_output_of_a_plain_server(tmp_path: Path) -> None:
    """The events are logged even if the application is run by plain uvicorn."""
    output = tmp_path / "output"
    with output.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "example_app.app:app", "--port", "0"],
            cwd=tmp_path,
            env=environment(0),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = served_at(process, output)
        registered = httpx.post(f"{url}/auth/register", json=JANE)
        logged_in = httpx.post(f"{url}/auth/login", data={"username": JANE["email"], "password": JANE["password"]})
    finally:
        process.kill()
        process.wait()

    assert (registered.status_code, logged_in.status_code) == (201, 200)
    assert len(re.findall(r'fastapi_users_knox\.events: {"event": "TokenIssued"', output.read_text())) == 1


def served_at(process: subprocess.Popen[bytes], output: Path) -> str:
    """Wait until the server prints its address, and return it."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        if found := re.search(r"running on (http://\S+)", output.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(output.read_text())


def test_the_lines_work_with_tokens_in_redis(tmp_path: Path, redis_7_server: RedisServer) -> None:
    """With `REDIS_URL` the tokens are in Redis, and the greeting shows the URL without the password."""
    redis_7_server.ask("FLUSHALL")
    redis_7_server.ask("ACL", "SETUSER", "example", "on", ">a-secret", "~*", "+@all")
    url = redis_7_server.url()
    with running_example(tmp_path, url.replace("//", "//example:a-secret@")) as lines:
        greeting = (tmp_path / "output").read_text()
        laptop, greeted = paste(lines[:2])

    assert f"its tokens are in Redis at {url}." in greeting
    assert "a-secret" not in greeting
    assert TOKEN.fullmatch(laptop.strip())
    assert greeted == '{"message":"Hello demo@example.com!"}\n'
    assert len(redis_7_server.ask("KEYS", "knox:*")) == 2
    redis_7_server.ask("ACL", "DELUSER", "example")


async def test_a_taken_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a port in use the example exits at once, with a message that says how to choose another port."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        with pytest.raises(SystemExit) as refused:
            await main()

    # Python prints the message of a SystemExit to stderr, and the exit status is 1.
    assert refused.value.code == f"Port {port} is taken: choose another one, such as `make demo PORT={port + 1}`."
