"""The stack of Google Cloud."""
