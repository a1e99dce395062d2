"""A reader who follows a page in a folder outside the repository, step by step."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.docs.folder import DOCS, FENCE, INCLUDE, ROOT, SRC, TUTORIAL

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds for a command to end or a server to start
IMPORTER = Path(__file__).with_name("importer.py")
TUTORIAL_FILES = {path.name for path in TUTORIAL.glob("*.py")}
# In place of GitHub, and of an index that has all the dependencies.
GIT = '#!/bin/sh\n[ "$1" = clone ] && exec cp -R "$CHECKOUT" "$(basename "$2")"\nexec /usr/bin/env -S "$REAL_GIT" "$@"\n'
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec "$REAL_PYTHON" "$@"
"$REAL_PYTHON" -m venv --without-pip "$3"
echo "$DEPENDENCIES" > "$(echo "$3"/lib/python*/site-packages)/dependencies.pth"
for module in pip uvicorn; do
    printf '#!/bin/sh\\nexec "%s/bin/python" -m %s "$@"\\n' "$PWD/$3" $module > "$3/bin/$module"
    chmod +x "$3/bin/$module"
done
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A block of a page: what it is, which file it includes, its title, and its text."""

    section: str
    language: str
    name: str
    title: str
    text: str


def steps_of(page: str) -> Iterator[Step]:
    """Read a page's blocks, in their order."""
    text = (DOCS / page).read_text()
    for block in FENCE.finditer(text):
        included = INCLUDE.fullmatch(block[3])
        name = included[1] if included else ""
        yield Step(
            section=re.findall(r"^## (.*)", text[: block.start()], re.MULTILINE)[-1:] and text[: block.start()].rpartition("\n## ")[2].partition("\n")[0] or "",
            language=re.sub(r"\W", "", block[2].split()[0]),
            name=name,
            title="".join(re.findall(r'title="(.+?)"', block[2])),
            text=(SRC / name).read_text() if name else block[3],
        )
