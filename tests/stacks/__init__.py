"""Tests of the stacks: components under mocks of the engine."""
