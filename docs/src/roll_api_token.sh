TOKEN=the-token-that-you-got
curl -s http://127.0.0.1:8000/api-tokens/the-id-that-you-got/roll -H "Authorization: Bearer $TOKEN" \
    -H "Content-Type: application/json" -d '{"overlap": 3600}'
