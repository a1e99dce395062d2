"""The command line of the package, for operators: list and revoke sessions, delete expired tokens, and check a set-up.

Only the program `fastapi-users-knox` imports this folder, which needs the extra `cli`.
"""

from fastapi_users_knox.cli.program import main, program

__all__ = ["main", "program"]
