curl -s http://127.0.0.1:8000/auth/login -d 'username=jane@example.org&password=quite-a-good-one'
