python superuser.py jane@example.org
