uvicorn api_tokens:app --port 8000
