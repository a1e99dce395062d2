export KNOX_DIGEST_KEYS=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
echo $KNOX_DIGEST_KEYS
