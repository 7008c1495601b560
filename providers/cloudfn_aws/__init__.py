"""AWS: what planning, the stacks' engine and callers need of it."""
