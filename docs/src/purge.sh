python purge.py
