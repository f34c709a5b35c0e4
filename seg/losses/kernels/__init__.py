"""What makes the losses fast: implementations by device. Losses and the training step import it.

`choice.kernels_for` says which of them serves a call; `choice.KERNELS` is the place for another.
"""
