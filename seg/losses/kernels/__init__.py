"""What makes the losses fast: implementations by device. Only the losses import it."""
