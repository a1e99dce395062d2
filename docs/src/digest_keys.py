"""Hash tokens with keys from the environment: one or more, with commas between them."""

import os
from datetime import UTC, datetime

from pydantic import SecretStr

from fastapi_users_knox import KnoxSettings

settings = KnoxSettings(
    digest_keys=tuple(SecretStr(key) for key in os.environ["KNOX_DIGEST_KEYS"].split(",")),
    accept_unkeyed_until=datetime(2030, 1, 1, tzinfo=UTC),
)
