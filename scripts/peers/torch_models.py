"""The models that have a name in Ringspin, in plain PyTorch: what their steps and results are compared to.

usage: torch_models.py             names and numbers of parameters, checked against the published ones

Parameters are called as torchvision calls them where torchvision has the model (torch_models_check.py compares), and as
MLPerf's NeuMF and PyTorch's word language model call theirs; images are N x C x H x W. Outputs are logits. Models with
auxiliary heads return (logits, heads from the last to the first) while they train. Initial weights are PyTorch's
defaults except where a model says otherwise.
"""

import functools
import sys

import torch
from torch import nn
from torch.nn import functional

# Trainable parameters with 1,000 classes (LeNet-5, ResNet-20: 10) and auxiliary heads. From torchvision's tables of
# weights: VGG, ResNet-18 and -50, GoogLeNet (6,624,904 without heads), Inception-v3 and MobileNet-v2. Others: BigDL's
# LeNet-5; Caffe's GoogLeNet (6,998,552 without heads); He et al. give 0.27 million for ResNet-20; Howard et al. 4.2
# million for MobileNet-v1, Keras this number; NeuMF by hand: 165,237 ids of 192 numbers, then 107,073 of linear layers.
PARAMETERS = {
    "lenet5": 22_278,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet20": 269_722,
    "inception_v1": 13_378_280,
    "googlenet": 13_004_888,
    "inception_v3": 27_161_264,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "neumf": 31_832_577,
}


def lenet5(classes=10):
    """BigDL's LeNet-5: 1 x 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(6, 12, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12 * 4 * 4, 100), nn.Tanh(), nn.Linear(100, classes),
    )  # fmt: skip


def mlp(inputs=784, hidden=(128, 64), outputs=10):
    """Linear layers with ReLU between them."""
    layers = [nn.Flatten()]
    for size in hidden:
        layers += [nn.Linear(inputs, size), nn.ReLU()]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def autoencoder(inputs=784, hidden=32):
    """BigDL's autoencoder for MNIST; its target is its input in 0..1."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, inputs), nn.Sigmoid())


# --- VGG (Simonyan, Zisserman 2014) -------------------------------------------------------------------------------


class VGG(nn.Module):
    """`stages`: convolutions of 3 x 3 before each of the five pools."""

    def __init__(self, stages, classes=1000):
        super().__init__()
        layers, before = [], 3
        for count, channels in zip(stages, (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
                before = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


# --- ResNet (He et al. 2015; stride in the 3 x 3 convolution, as torchvision) --------------------------------------


def conv3x3(before, channels, stride=1):
    return nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, before, channels, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(before, channels, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(before, channels, stride)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, before, channels, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels, stride), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = nn.Conv2d(channels, 4 * channels, 1, bias=False), nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(before, 4 * channels, stride)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (self.downsample(x) if self.downsample else x))


def projection(before, channels, stride):
    """Shortcut of type B: a convolution of 1 x 1 where the shape changes."""
    if stride == 1 and before == channels:
        return None
    return nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class Padding(nn.Module):
    """Shortcut of type A: every `stride`-th pixel, zeros as the new channels behind the old ones. No parameters."""

    def __init__(self, channels, stride):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x):
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels - x.shape[1]))


def padding(before, channels, stride):
    return None if stride == 1 and before == channels else Padding(channels, stride)


def stage(block, before, channels, count, stride, shortcut=projection):
    blocks = []
    for index in range(count):
        blocks.append(block(before, channels, 1 if index else stride, shortcut))
        before = channels * block.expansion
    return nn.Sequential(*blocks)


class ResNet(nn.Module):
    """For 3 x 224 x 224."""

    def __init__(self, block, counts, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        wide = block.expansion
        self.layer1 = stage(block, 64, 64, counts[0], 1)
        self.layer2 = stage(block, 64 * wide, 128, counts[1], 2)
        self.layer3 = stage(block, 128 * wide, 256, counts[2], 2)
        self.layer4 = stage(block, 256 * wide, 512, counts[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * wide, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class CifarResNet(nn.Module):
    """For 3 x 32 x 32: three stages of `blocks` basic blocks with 16, 32 and 64 channels; ResNet-20 has three."""

    def __init__(self, blocks=3, classes=10, shortcut=padding):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(3, 16), nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(BasicBlock, 16, 16, blocks, 1, shortcut)
        self.layer2 = stage(BasicBlock, 16, 32, blocks, 2, shortcut)
        self.layer3 = stage(BasicBlock, 32, 64, blocks, 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


# --- Inception (Szegedy et al. 2014, 2015) -------------------------------------------------------------------------


class Conv(nn.Module):
    """Convolution, batch normalization when asked for, ReLU."""

    def __init__(self, before, channels, size, norm=True, **how):
        super().__init__()
        self.conv = nn.Conv2d(before, channels, size, bias=not norm, **how)
        self.bn = nn.BatchNorm2d(channels, eps=0.001) if norm else nn.Identity()

    def forward(self, x):
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Four branches; `large` is the third's kernel."""

    def __init__(self, before, sizes, conv, large):
        super().__init__()
        one, reduced3, three, reduced5, five, pooled = sizes
        self.branch1 = conv(before, one, 1)
        self.branch2 = nn.Sequential(conv(before, reduced3, 1), conv(reduced3, three, 3, padding=1))
        self.branch3 = nn.Sequential(conv(before, reduced5, 1), conv(reduced5, five, large, padding=large // 2))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(before, pooled, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionHead(nn.Module):
    """Auxiliary head on 14 x 14."""

    def __init__(self, before, classes, conv, pool):
        super().__init__()
        self.pool = pool
        self.conv = conv(before, 128, 1)
        self.fc1, self.fc2 = nn.Linear(128 * 4 * 4, 1024), nn.Linear(1024, classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x):
        x = torch.flatten(self.conv(self.pool(x)), 1)
        return self.fc2(self.dropout(functional.relu(self.fc1(x), inplace=True)))


class InceptionV1(nn.Module):
    """GoogLeNet for 3 x 224 x 224, with both auxiliary heads.

    As published and as BigDL's Inception_v1: local response normalization, biases, 5 x 5 kernels. With `norm` as
    torchvision's: batch normalization, 3 x 3 instead of 5 x 5, a last pool of 2 x 2, adaptive pools in the heads.
    """

    def __init__(self, norm=False, classes=1000):
        super().__init__()
        conv = functools.partial(Conv, norm=norm)
        block = functools.partial(Inception, conv=conv, large=3 if norm else 5)

        def pool(size=3):
            return nn.MaxPool2d(size, 2, ceil_mode=True)

        def head(before):
            return InceptionHead(before, classes, conv, nn.AdaptiveAvgPool2d(4) if norm else nn.AvgPool2d(5, 3))

        def lrn():
            return nn.Identity() if norm else nn.LocalResponseNorm(5)

        self.conv1 = conv(3, 64, 7, stride=2, padding=3)
        self.maxpool1, self.lrn1 = pool(), lrn()
        self.conv2, self.conv3 = conv(64, 64, 1), conv(64, 192, 3, padding=1)
        self.lrn2, self.maxpool2 = lrn(), pool()
        self.inception3a = block(192, (64, 96, 128, 16, 32, 32))
        self.inception3b = block(256, (128, 128, 192, 32, 96, 64))
        self.maxpool3 = pool()
        self.inception4a = block(480, (192, 96, 208, 16, 48, 64))
        self.inception4b = block(512, (160, 112, 224, 24, 64, 64))
        self.inception4c = block(512, (128, 128, 256, 24, 64, 64))
        self.inception4d = block(512, (112, 144, 288, 32, 64, 64))
        self.inception4e = block(528, (256, 160, 320, 32, 128, 128))
        self.maxpool4 = pool(2 if norm else 3)
        self.inception5a = block(832, (256, 160, 320, 32, 128, 128))
        self.inception5b = block(832, (384, 192, 384, 48, 128, 128))
        self.aux1, self.aux2 = head(512), head(528)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2 if norm else 0.4)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        x = self.lrn1(self.maxpool1(self.conv1(x)))
        x = self.maxpool2(self.lrn2(self.conv3(self.conv2(x))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4a(x)
        first = self.aux1(x) if self.training else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        second = self.aux2(x) if self.training else None
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        x = self.fc(self.dropout(torch.flatten(self.avgpool(x), 1)))
        return (x, second, first) if self.training else x


class InceptionA(nn.Module):
    def __init__(self, before, pooled):
        super().__init__()
        self.branch1x1 = Conv(before, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(before, 48, 1), Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(before, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(before, pooled, 1)

    def forward(self, x):
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(functional.avg_pool2d(x, 3, 1, padding=1))
        return torch.cat([self.branch1x1(x), five, three, pooled], 1)


class InceptionB(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.branch3x3 = Conv(before, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(before, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x):
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, functional.max_pool2d(x, 3, 2)], 1)


def row7(before, channels):
    return Conv(before, channels, (1, 7), padding=(0, 3))


def column7(before, channels):
    return Conv(before, channels, (7, 1), padding=(3, 0))


class InceptionC(nn.Module):
    def __init__(self, before, inner):
        super().__init__()
        self.branch1x1 = Conv(before, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = Conv(before, inner, 1), row7(inner, inner)
        self.branch7x7_3 = column7(inner, 192)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(before, inner, 1), column7(inner, inner)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = row7(inner, inner), column7(inner, inner)
        self.branch7x7dbl_5 = row7(inner, 192)
        self.branch_pool = Conv(before, 192, 1)

    def forward(self, x):
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        pooled = self.branch_pool(functional.avg_pool2d(x, 3, 1, padding=1))
        return torch.cat([self.branch1x1(x), seven, double, pooled], 1)


class InceptionD(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(before, 192, 1), Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(before, 192, 1), row7(192, 192)
        self.branch7x7x3_3, self.branch7x7x3_4 = column7(192, 192), Conv(192, 192, 3, stride=2)

    def forward(self, x):
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, functional.max_pool2d(x, 3, 2)], 1)


class InceptionE(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.branch1x1 = Conv(before, 320, 1)
        self.branch3x3_1 = Conv(before, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(before, 448, 1), Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(before, 192, 1)

    def forward(self, x):
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three), self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double), self.branch_pool(functional.avg_pool2d(x, 3, 1, padding=1)),
        ]  # fmt: skip
        return torch.cat(branches, 1)


class InceptionV3Head(nn.Module):
    def __init__(self, before, classes):
        super().__init__()
        self.conv0, self.conv1 = Conv(before, 128, 1), Conv(128, 768, 5)
        self.fc = nn.Linear(768, classes)

    def forward(self, x):
        x = self.conv1(self.conv0(functional.avg_pool2d(x, 5, 3)))
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class InceptionV3(nn.Module):
    """For 3 x 299 x 299, with the auxiliary head."""

    def __init__(self, classes=1000):
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Conv(3, 32, 3, stride=2), Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.AuxLogits = InceptionV3Head(768, classes)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = InceptionD(768), InceptionE(1280), InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(2048, classes)

    def forward(self, x):
        x = self.maxpool1(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        head = self.AuxLogits(x) if self.training else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        x = self.fc(self.dropout(torch.flatten(self.avgpool(x), 1)))
        return (x, head) if self.training else x


# --- MobileNet (Howard et al. 2017, Sandler et al. 2018) -----------------------------------------------------------


def separable(before, channels, stride):
    """Depthwise, then pointwise."""
    depthwise = nn.Conv2d(before, before, 3, stride, padding=1, groups=before, bias=False)
    return nn.Sequential(
        depthwise, nn.BatchNorm2d(before), nn.ReLU(inplace=True),
        nn.Conv2d(before, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
    )  # fmt: skip


class MobileNetV1(nn.Module):
    """For 3 x 224 x 224."""

    # Channels, stride.
    BLOCKS = (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)

    def __init__(self, classes=1000):
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 32, 3, 2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        blocks, before = [first], 32
        for channels, stride in self.BLOCKS:
            blocks.append(separable(before, channels, stride))
            before = channels
        self.features = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1024, classes)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def conv_relu6(before, channels, size=1, stride=1, groups=1):
    conv = nn.Conv2d(before, channels, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    def __init__(self, before, channels, stride, expand):
        super().__init__()
        inner = before * expand
        self.adds = stride == 1 and before == channels
        self.conv = nn.Sequential(
            *([conv_relu6(before, inner)] if expand != 1 else []), conv_relu6(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """For 3 x 224 x 224."""

    # Expansion, channels, blocks, stride of the first.
    STAGES = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)

    def __init__(self, classes=1000):
        super().__init__()
        blocks, before = [conv_relu6(3, 32, 3, 2)], 32
        for expand, channels, count, stride in self.STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(before, channels, 1 if index else stride, expand))
                before = channels
        self.features = nn.Sequential(*blocks, conv_relu6(before, 1280))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


# --- Recommendation -------------------------------------------------------------------------------------------------


class NeuMF(nn.Module):
    """He et al. 2017 with MLPerf's sizes for ml-20m: (users, items: N integers each) -> N logits.

    Embeddings begin normal with standard deviation 0.01, linear layers Glorot uniform with biases of 0. Gradients of
    embeddings are sparse on request.
    """

    def __init__(self, users=138_493, items=26_744, mf=64, layers=(256, 256, 128, 64), sparse=False):
        super().__init__()
        half = layers[0] // 2
        self.mf_user_embed = nn.Embedding(users, mf, sparse=sparse)
        self.mf_item_embed = nn.Embedding(items, mf, sparse=sparse)
        self.mlp_user_embed = nn.Embedding(users, half, sparse=sparse)
        self.mlp_item_embed = nn.Embedding(items, half, sparse=sparse)
        self.mlp = nn.ModuleList([nn.Linear(a, b) for a, b in zip(layers[:-1], layers[1:], strict=True)])
        self.final = nn.Linear(mf + layers[-1], 1)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.01)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, user, item):
        deep = torch.cat([self.mlp_user_embed(user), self.mlp_item_embed(item)], 1)
        for layer in self.mlp:
            deep = functional.relu(layer(deep))
        both = torch.cat([self.mf_user_embed(user) * self.mf_item_embed(item), deep], 1)
        return self.final(both).squeeze(1)


class WideDeep(nn.Module):
    """Cheng et al. 2016: N x columns integers -> N logits.

    `columns` says how many values each column has. The first `deep` of them are embedded with `width` numbers each
    (normal, 0.01) and go through `hidden` layers; the wide side has one number for each value of every column (0).
    """

    def __init__(self, columns, deep, width=16, hidden=(100, 50, 25)):
        super().__init__()
        self.deep = nn.ModuleList([nn.Embedding(count, width) for count in columns[:deep]])
        self.wide = nn.ModuleList([nn.Embedding(count, 1) for count in columns])
        sizes = [width * deep, *hidden]
        self.mlp = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)])
        self.final = nn.Linear(sizes[-1], 1)
        for embedding in self.deep:
            nn.init.normal_(embedding.weight, std=0.01)
        for embedding in self.wide:
            nn.init.zeros_(embedding.weight)

    def forward(self, columns):
        deep = torch.cat([embed(columns[:, i]) for i, embed in enumerate(self.deep)], 1)
        for layer in self.mlp:
            deep = functional.relu(layer(deep))
        wide = sum(embed(columns[:, i]) for i, embed in enumerate(self.wide))
        return (self.final(deep) + wide).squeeze(1)


# --- Text: N x T integers, 0 is padding and stands in front ---------------------------------------------------------


class TextCNN(nn.Module):
    """Kim 2014: convolutions over 3, 4 and 5 words, the highest of each over the text."""

    def __init__(self, vocabulary=20_000, width=128, sizes=(3, 4, 5), channels=100, classes=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.convs = nn.ModuleList([nn.Conv1d(width, channels, size) for size in sizes])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(channels * len(sizes), classes)

    def forward(self, tokens):
        x = self.embedding(tokens).transpose(1, 2)
        highest = [functional.relu(conv(x)).amax(2) for conv in self.convs]
        return self.fc(self.dropout(torch.cat(highest, 1)))


class LSTMText(nn.Module):
    """The last step's output of an LSTM."""

    def __init__(self, vocabulary=20_000, width=128, hidden=128, classes=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, tokens):
        return self.fc(self.lstm(self.embedding(tokens))[0][:, -1])


class GRUText(nn.Module):
    """The last step's output of a GRU."""

    def __init__(self, vocabulary=20_000, width=128, hidden=128, classes=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, tokens):
        return self.fc(self.gru(self.embedding(tokens))[0][:, -1])


class TransformerText(nn.Module):
    """Learned positions, encoder layers as PyTorch's defaults (normalization behind, ReLU), mean over the words.

    Embeddings begin normal with standard deviation 0.02. Without `masked`, padding is a word like others.
    """

    def __init__(
        self, vocabulary=20_000, steps=128, width=256, layers=4, heads=8, inner=1024, classes=2, dropout=0.1, masked=True
    ):
        super().__init__()
        self.masked = masked
        self.embedding, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(steps, width)
        layer = nn.TransformerEncoderLayer(width, heads, inner, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.fc = nn.Linear(width, classes)
        for embedding in (self.embedding, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        if not self.masked:
            return self.fc(self.encoder(x).mean(1))
        absent = tokens == 0
        present = (~absent).unsqueeze(2).to(x.dtype)
        x = self.encoder(x, src_key_padding_mask=absent) * present
        return self.fc(x.sum(1) / present.sum(1))


class WordLanguageModel(nn.Module):
    """Layers of LSTM that predict the next word: N x T integers -> N x T x vocabulary logits.

    Embeddings and the decoder begin uniform in -0.1..0.1, the decoder's biases 0. `tied`: one matrix for both.
    """

    def __init__(self, vocabulary=10_000, width=200, hidden=200, layers=2, dropout=0.2, tied=False):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocabulary, width)
        self.rnn = nn.LSTM(width, hidden, layers, dropout=dropout, batch_first=True)
        self.decoder = nn.Linear(hidden, vocabulary)
        if tied:
            self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens):
        return self.decoder(self.drop(self.rnn(self.drop(self.encoder(tokens)))[0]))


MODELS = {
    "lenet5": lenet5,
    "mlp": mlp,
    "autoencoder": autoencoder,
    "vgg16": functools.partial(VGG, (2, 2, 3, 3, 3)),
    "vgg19": functools.partial(VGG, (2, 2, 4, 4, 4)),
    "resnet18": functools.partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet50": functools.partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet20": CifarResNet,
    "inception_v1": InceptionV1,
    "googlenet": functools.partial(InceptionV1, norm=True),
    "inception_v3": InceptionV3,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    "neumf": NeuMF,
    "wide_deep": WideDeep,
    "text_cnn": TextCNN,
    "lstm_text": LSTMText,
    "gru_text": GRUText,
    "transformer_text": TransformerText,
    "word_lm": WordLanguageModel,
}
# What a model without defaults is listed with: the columns of `scripts/prepare-data wide-deep`.
LISTED_WITH = {"wide_deep": {"columns": (943, 1682, 7, 2, 21, 216, 14, 147, 432, 4536), "deep": 6}}


def parameter_count(model):
    """Trainable parameters; a shared one counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def main():
    wrong = 0
    for name, build in MODELS.items():
        with torch.device("meta"):
            count = parameter_count(build(**LISTED_WITH.get(name, {})))
        published = PARAMETERS.get(name)
        verdict = "" if published is None else "as published" if count == published else f"published: {published:,}"
        wrong += published not in (None, count)
        print(f"{name:<18} {count:>12,}  {verdict}".rstrip())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
