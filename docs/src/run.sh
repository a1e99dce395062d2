uvicorn app:app --port 8000
