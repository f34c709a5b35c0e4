"""From images to labels: sizes, padding, decisions. Training and all above may import it."""

from seg.inference.input_sizes import pixel_stride
from seg.inference.whole_images import labels, predict_logits

__all__ = ["labels", "pixel_stride", "predict_logits"]
