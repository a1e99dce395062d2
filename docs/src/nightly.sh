#!/bin/sh
# Save the reports. The token is in a file that only this user can read, and not in the arguments, which `ps` shows.
set -eu
status=$(curl -sS -K api_token.curl -o reports.json -w '%{http_code}' http://127.0.0.1:8000/reports)
case $status in
    200) echo "The reports are in reports.json." ;;
    401) echo "The API token has expired or was ended: a person has to log in and roll it." >&2; exit 1 ;;
    *) echo "The reports were answered by $status." >&2; exit 1 ;;
esac
