"""What a strategy does: functions that issue, read and revoke tokens, and take the strategy's frozen context."""

__all__: list[str] = []
