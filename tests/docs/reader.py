"""A reader who follows the pages step by step, in a folder outside the repository."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.docs.folder import DOCS, FENCE, INCLUDE, ROOT, SRC, TUTORIAL

HOST = "127.0.0.1"
PATIENCE = 180.0  # seconds for a command to finish or for a server to start
IMPORTER = Path(__file__).with_name("importer.py")
TUTORIAL_FILES = {path.name for path in TUTORIAL.glob("*.py")}
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "fastapi_users_knox")
# Instead of cloning from GitHub, `git` copies the checkout. A new virtual environment already has the dependencies, but
# does not have the package.
GIT = """#!/bin/sh
cp -R {checkout} "$(basename "$2")"
"""
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
{python} -m venv --without-pip "$3"
echo {dependencies} > "$(echo "$3"/lib/python*/site-packages)/dependencies.pth"
for module in pip uvicorn; do
    printf '#!/bin/sh\\nexec "%s/bin/python" -m %s "$@"\\n' "$PWD/$3" $module > "$3/bin/$module"
    chmod +x "$3/bin/$module"
done
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A block of a page: the heading above it, its language, the file that it includes, its title and its text."""

    section: str
    language: str
    name: str
    title: str
    text: str


def steps_of(page: str) -> Iterator[Step]:
    """Yield the blocks of a page in their order."""
    text = (DOCS / page).read_text()
    for block in FENCE.finditer(text):
        included = INCLUDE.fullmatch(block[3])
        name = included[1] if included else ""
        yield Step(
            section=(re.findall(r"^## (.*)", text[: block.start()], re.MULTILINE) or [""])[-1],
            language=block[2].strip("{}.").split()[0],
            name=name,
            title="".join(re.findall(r'title="(.+?)"', block[2])),
            text=(SRC / name).read_text() if name else block[3],
        )


def prepare(home: Path) -> dict[str, str]:
    """Create the programs that replace the network, and return the reader's environment variables."""
    checkout, dependencies, programs = (home / name for name in ("checkout", "dependencies", "bin"))
    for directory in (checkout, dependencies, programs):
        directory.mkdir()
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, checkout / name)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "fastapi_users_knox" not in path.name and path.suffix != ".pth":
            (dependencies / path.name).symlink_to(path)
    texts = {"git": GIT.format(checkout=shlex.quote(str(checkout)))}
    python = {"python": shlex.quote(sys.executable), "dependencies": shlex.quote(str(dependencies))}
    texts["python3"] = PYTHON.format(**python)
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "LC_", "HOME", "SSL_"))}
    programs_first = os.pathsep.join([str(programs), os.environ["PATH"]])
    return {**kept, "PATH": programs_first, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}


class Reader:
    """A reader with a shell and a folder, who can import files once the package is installed."""

    def __init__(self, folder: Path, environment: dict[str, str], importer: "Importer | None" = None) -> None:
        """Start in a folder with these environment variables."""
        self.folder = folder
        self.environment = environment
        self.importer = importer
        self.application = "app"
        self.server: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.got: dict[str, str] = {}
        self.printed = ""
        self.is_complete = False
        self.section = ""

    def follow(self, step: Step) -> str:
        """Do what a block instructs, and return the error, or an empty text."""
        if self.is_complete and step.section != self.section:
            self.restore()
        self.section = step.section
        self.printed = self.printed if step.language == "json" else ""
        match step.language:
            case "python":
                return self.write(step)
            case "diff":
                return self.apply(step) or self.check("app")
            case "sh":
                return self.save(step) if step.title else self.run(step.text)
            case "json" if self.printed:
                return self.compare(json.loads(step.text))
            case "text" if cron := re.search(r"^\d[\d *]+ (cd .*)", step.text):
                alone = f"env -i PATH=/usr/bin:/bin sh -c {shlex.quote(cron[1].replace('/srv/app', str(self.folder)))}"
                return self.run(alone)
        return ""

    def restore(self) -> None:
        """Reset the tutorial's files to their final state, from which each section starts."""
        self.stop()
        for name in TUTORIAL_FILES:
            shutil.copy(TUTORIAL / name, self.folder)

    def write(self, step: Step) -> str:
        """Write a file, and check it unless it exists with the same text."""
        path = self.folder / step.title
        if path.exists() and path.read_text() == step.text:
            return ""
        path.write_text(step.text)
        return self.check(path.stem)

    def save(self, step: Step) -> str:
        """Save a script, which a later step runs."""
        (self.folder / step.title).write_text(self.filled_in(step.text))
        return ""

    def filled_in(self, script: str) -> str:
        """Replace the port, and what earlier responses contained."""
        script = script.replace("8000", str(self.port))
        for name, value in self.got.items():
            script = script.replace(f"the-{name}-that-you-got", value)
        return script

    def apply(self, step: Step) -> str:
        """Apply a diff. If it has been applied already, because a page repeats a step, do nothing."""
        self.stop()
        command = ["git", "apply", "--unidiff-zero", "-p0", str(SRC / step.name)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False, text=True)
        again = subprocess.run([*command, "-R", "--check"], cwd=self.folder, capture_output=True, check=False)
        return done.stderr if done.returncode and again.returncode else ""

    def check(self, module: str) -> str:
        """Import a module. Files of the application are checked only once all of them exist."""
        self.is_complete = self.is_complete or self.has_tutorial()
        if f"{module}.py" in TUTORIAL_FILES:
            module = self.application
        if self.importer is None:
            self.importer = Importer(self.folder / ".venv/bin/python", self.folder)
        if not (self.folder / f"{module}.py").exists():
            return ""
        return self.importer.check(self.folder, module, self.environment)

    def has_tutorial(self) -> bool:
        """Return whether the folder has the final files of the tutorial."""
        files = [(self.folder / name, TUTORIAL / name) for name in TUTORIAL_FILES]
        return all(ours.exists() and ours.read_text() == theirs.read_text() for ours, theirs in files)

    def run(self, script: str) -> str:
        """Run commands, and keep the directory and the variables that they set. A server keeps running."""
        script = self.filled_in(script)
        if script.startswith("uvicorn"):
            return self.serve(script)
        state = self.folder / ".state"
        done = subprocess.run(
            ["bash", "-e"],
            cwd=self.folder,
            env=self.environment,
            input=f"{script}\n{{ pwd; env -0; }} > {shlex.quote(str(state))}\n",
            capture_output=True,
            check=False,
            text=True,
            timeout=10 * PATIENCE,
        )
        if done.returncode:
            return f"{script}{done.stdout}{done.stderr}"
        folder, _, variables = state.read_text().partition("\n")
        state.unlink()
        self.folder = Path(folder)
        self.environment = dict(each.split("=", 1) for each in variables.split("\0") if each)
        self.printed = done.stdout
        return ""

    def serve(self, command: str) -> str:
        """Start a server and wait until it accepts connections."""
        self.stop()
        log = self.folder / "server.log"
        with log.open("w") as output:
            self.server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + PATIENCE
        while self.server.poll() is None and time.monotonic() < end:
            with suppress(OSError), socket.create_connection((HOST, self.port)):
                return ""
            time.sleep(0.05)
        return log.read_text()

    def again(self, folder: Path, **environment: str) -> "Reader":
        """Return a reader with a copy of the folder, the same environment and these additional variables."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
        (folder / ".venv").symlink_to(self.folder / ".venv")
        reader = Reader(folder, self.environment | environment, self.importer)
        reader.restore()
        reader.is_complete = True
        return reader

    def stop(self) -> None:
        """Stop the server, if one is running."""
        if self.server is not None:
            self.server.terminate()
            self.server.wait()
            self.server = None

    def compare(self, shown: object) -> str:
        """Compare the fields of the printed response with those that the page shows."""
        answer = json.loads(self.printed)
        names = {"access_token": "token", "token": "api-token", "id": "id"}
        self.got |= {name: answer[field] for field, name in names.items() if field in answer}
        same = isinstance(shown, dict) and [*shown] == [*answer]
        return "" if same else f"{self.printed} is not like {shown}"


class Importer:
    """The process that imports files and calls applications in the reader's environment."""

    def __init__(self, python: Path, folder: Path) -> None:
        """Start the process and read where it found the package."""
        self.errors = (folder / "importer.log").open("w+")
        self.process = subprocess.Popen(
            [python, IMPORTER],
            cwd=folder,
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.package = Path(self._read())

    def check(self, folder: Path, module: str, environment: dict[str, str]) -> str:
        """Import a module, and return the error, or an empty text."""
        assert self.process.stdin
        request = {"folder": str(folder), "module": module, "environment": environment}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.errors.close()

    def _read(self) -> str:
        """Return the process's next answer, or raise its error output if the process has ended."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise AssertionError(self.errors.read())
        return str(json.loads(line))


def free_port() -> int:
    """Return a local port on which nothing listens."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])
