"""Make the tables anew in the schema `django`, create a user, log in, and print the token."""

import django
from django.core.management import call_command
from django.db import connection

django.setup()

from django.contrib.auth.models import User  # noqa: E402 (models are there after the set-up)
from knox.models import AuthToken  # noqa: E402

with connection.cursor() as cursor:
    cursor.execute("DROP SCHEMA IF EXISTS django CASCADE")
    cursor.execute("CREATE SCHEMA django")
call_command("migrate", verbosity=0)
_, token = AuthToken.objects.create(User.objects.create_user("jane", "jane@example.org"))
print(token)  # noqa: T201
