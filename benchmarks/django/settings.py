"""The minimal settings of a project with django-rest-knox; libpq's environment variables name the database."""

import os

SECRET_KEY = "a secret of the benchmark's"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_I18N = False
ROOT_URLCONF = "benchmarks.django.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "knox"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # It sends the length of the answer, as uvicorn does.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "CONN_MAX_AGE": None,  # A connection is kept as long as the process runs, as in a pool.
    },
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["knox.auth.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer"}
