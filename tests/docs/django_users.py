"""Create Django's tables in a SQLite file, with a user for each algorithm: `python -m tests.docs.django_users FILE`."""

import sys

import django
from django.conf import settings
from django.core.management import call_command

HASHERS = {
    "pbkdf2_sha256": "PBKDF2PasswordHasher",
    "pbkdf2_sha1": "PBKDF2SHA1PasswordHasher",
    "argon2": "Argon2PasswordHasher",
    "bcrypt_sha256": "BCryptSHA256PasswordHasher",
    "bcrypt": "BCryptPasswordHasher",
}
PASSWORD = "quite-a-good-one, naïve too"


def main(path: str) -> None:
    """Create the tables, and the users by Django's own functions. A user's name is that of the algorithm."""
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}},
        PASSWORD_HASHERS=[f"django.contrib.auth.hashers.{name}" for name in HASHERS.values()],
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    _create_users()


def _create_users() -> None:
    from django.contrib.auth.hashers import make_password  # noqa: PLC0415 (Django must be set up)
    from django.contrib.auth.models import User  # noqa: PLC0415

    for algorithm in HASHERS:
        password = make_password(PASSWORD, hasher=algorithm)
        User.objects.create(username=algorithm, email=f"{algorithm}@example.org", password=password)
    User.objects.create_user("nobody", "nobody@example.org")


if __name__ == "__main__":
    main(sys.argv[1])
