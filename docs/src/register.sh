curl -s http://127.0.0.1:8000/auth/register --json '{"email": "jane@example.org", "password": "quite-a-good-one"}'
