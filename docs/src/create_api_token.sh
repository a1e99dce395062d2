TOKEN=the-token-that-you-got
curl -s http://127.0.0.1:8000/api-tokens/ -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \
    -d '{"name": "Nightly report", "scopes": ["reports:read"], "expires_in": 2592000}'
