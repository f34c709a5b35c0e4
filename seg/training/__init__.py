"""What one optimiser step needs, and what is checked before the first. The module imports it."""
