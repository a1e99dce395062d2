"""What a strategy does: issuing, reading and revoking tokens, as functions over one frozen context."""

__all__: list[str] = []
