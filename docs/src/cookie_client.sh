pip install httpx
python cookie_client.py
