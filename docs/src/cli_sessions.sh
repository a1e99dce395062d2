export FASTAPI_USERS_KNOX_APP=knox_cli:open_strategy
fastapi-users-knox sessions jane@example.org
