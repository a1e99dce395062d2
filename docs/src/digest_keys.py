"""Hash tokens with the keys in the environment variable KNOX_DIGEST_KEYS, which are separated by commas."""

import os
from datetime import UTC, datetime

from fastapi_users_knox import KnoxSettings
from pydantic import SecretStr

settings = KnoxSettings(
    digest_keys=tuple(SecretStr(key) for key in os.environ["KNOX_DIGEST_KEYS"].split(",")),
    accept_unkeyed_until=datetime(2030, 1, 1, tzinfo=UTC),
)
