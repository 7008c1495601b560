"""From power-on to an agent that answers: what user data carries, and what it fetches."""
