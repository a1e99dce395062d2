(umask 077; echo 'header = "Authorization: Bearer the-api-token-that-you-got"' > api_token.curl)
