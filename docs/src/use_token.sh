TOKEN=the-token-that-you-got
curl -s http://127.0.0.1:8000/authenticated-route -H "Authorization: Bearer $TOKEN"
curl -s -X POST http://127.0.0.1:8000/auth/logout-all -H "Authorization: Bearer $TOKEN"
curl -s http://127.0.0.1:8000/authenticated-route -H "Authorization: Bearer $TOKEN"
