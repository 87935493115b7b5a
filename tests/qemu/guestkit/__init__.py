"""Real guests for tests: what they are made of, how they are started, what they say of their machine."""
