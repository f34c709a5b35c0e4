"""Which samples a step sees. The data module imports it."""
