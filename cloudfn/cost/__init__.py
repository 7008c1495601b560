"""What things cost: price tables, where they come from and how old they are."""
