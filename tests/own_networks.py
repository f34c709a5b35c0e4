"""Networks of one's own, as a user writes them around other libraries' models."""

import timm
import torch
from torch import nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation


class SegFormer(nn.Module):
    """A SegFormer of transformers: stride 32, logits at a quarter of the size, in `.logits`."""

    def __init__(self, classes: int, in_channels: int = 3):
        super().__init__()
        config = SegformerConfig(
            num_channels=in_channels,
            num_labels=classes,
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 16, 24, 32],
            num_attention_heads=[1, 1, 2, 4],
            decoder_hidden_size=16,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
        )
        self.model = SegformerForSemanticSegmentation(config)
        # batch norm sees a micro-batch, whatever the network
        self.model.decode_head.batch_norm = nn.GroupNorm(4, 16)

    def forward(self, images):
        return self.model(images)


class ViT(nn.Module):
    """A ViT of timm for one size alone, such as 224 x 224 with logits of 14 x 14."""

    def __init__(self, classes: int, in_channels: int = 3, side: int = 224):
        super().__init__()
        name, patches = "vit_tiny_patch16_224", side // 16
        settings = {"in_chans": in_channels, "num_classes": 0, "depth": 2, "img_size": side}
        self.encoder = timm.create_model(name, pretrained=False, **settings)
        self.grid = patches, patches
        self.head = nn.Conv2d(192, classes, 1)

    def forward(self, images):
        tokens = self.encoder.forward_features(images)[:, self.encoder.num_prefix_tokens :]
        return self.head(tokens.transpose(1, 2).unflatten(2, self.grid))


class Stride16(nn.Module):
    """Refuses any other input than of sides that divide by 16; gives a tuple."""

    def __init__(self, classes: int, in_channels: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 8, 16, stride=16)
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, images):
        if images.shape[-2] % 16 or images.shape[-1] % 16:
            raise ValueError(f"{tuple(images.shape[-2:])} does not divide by 16")
        features = self.stem(images)
        return self.head(torch.relu(features)), features
