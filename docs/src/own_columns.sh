rm -f app.db
