"""From images to labels: sizes, padding, decisions. Training and all above may import it."""

from seg.inference.whole_images import labels, pixel_stride, predict_logits

__all__ = ["labels", "pixel_stride", "predict_logits"]
