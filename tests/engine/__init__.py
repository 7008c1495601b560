"""The real Pulumi engine with providers of our own in place of the clouds'."""
