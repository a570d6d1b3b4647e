"""The small student: a chain of convolutions (KD-FMV's student has five)."""

import math

from torch import Tensor, nn

from kd.models.base import Classifier, Stage

KERNEL = 3
MOST_CHANNELS = 512


def strides(depth: int, image_size: int) -> tuple[int, ...]:
    """Stride of each of the `depth` convolutions, 1 or 2.

    The image is halved at most five times, evenly over the depth, and never below a grid of three: stride-2
    convolutions make a small network fast, and a map of fewer than three units is no use as an explanation.
    """
    halvings = min(5, depth, int(math.log2(image_size / 3)))
    halving = {step * depth // halvings for step in range(halvings)}
    return tuple(2 if layer in halving else 1 for layer in range(depth))


class Plain(Classifier):
    """depth × (3×3 convolution, batch norm, ReLU), global average pooling, linear. Every layer is a stage.

    depth: 1..12. width: channels of the first layer, doubled at each halving up to 512. image_size: the size that
    determines the strides (others can be used). Input mean and std as given, 0.5 by default.
    """

    def __init__(self, depth: int, width: int, classes: int, image_size: int,
                 mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.5, 0.5, 0.5)) -> None:
        super().__init__(mean, std)
        layers, stages = [], []
        channels, halvings = 3, 0
        for number, stride in enumerate(strides(depth, image_size), start=1):
            halvings += stride == 2
            wider = min(width * 2 ** (halvings - 1), MOST_CHANNELS)
            layers.append(_layer(channels, wider, stride))
            stages.append(Stage(f"layer {number}", wider, 2**halvings))
            channels = wider
        self.layers = nn.ModuleList(layers)
        self.stages = tuple(stages)
        self.classifier = nn.Linear(channels, classes)

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        maps, features = [], prepared
        for layer in self.layers:
            features = layer(features)
            maps.append(features)
        return tuple(maps)

    def stages_until(self, prepared: Tensor, stage: int) -> Tensor:
        for layer in self.layers[:stage + 1]:
            prepared = layer(prepared)
        return prepared

    def stages_from(self, prepared: Tensor, stage: int, features: Tensor) -> Tensor:
        for layer in self.layers[stage + 1:]:
            features = layer(features)
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(features.mean(dim=(2, 3)))

    @property
    def pooled_linear(self) -> nn.Linear:
        return self.classifier


def _layer(before: int, after: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, KERNEL, stride, padding=1, bias=False)
    # He 2015: keeps the signal's size through ReLU layers, so that twelve of them start to learn at once.
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))
