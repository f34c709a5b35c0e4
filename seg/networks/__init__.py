"""Networks: encoders by name, weights from files. Training and all above may import it."""

from seg.networks.encoders import (
    check_encoder,
    hub_in_one_line,
    hub_normalisation,
    normalisation,
)
from seg.networks.weights import (
    is_weight_file,
    load_encoder_weights,
    load_network_weights,
    read_weights,
    some,
)

__all__ = [
    "check_encoder",
    "hub_in_one_line",
    "hub_normalisation",
    "is_weight_file",
    "load_encoder_weights",
    "load_network_weights",
    "normalisation",
    "read_weights",
    "some",
]
