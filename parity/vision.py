"""Writes tiny convolutional and recurrent networks with what PyTorch computes of them.

One folder a network under engine/model/testdata/parity: model.safetensors as it begins,
golden.safetensors with the inputs, and of a pass in training mode the logits, the loss
and the gradients ("grad." and the parameter's name), the running statistics after it
("after."), and the logits, loss and gradients in evaluation mode ("eval.logits",
"eval.loss", "eval.grad.") with those statistics.
"""

import shutil

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from tiny import ROOT

CLASSES = 5


def vgg(norm):
    """CNN of model/cnn.go: stages (6, 8) and (12), images of 9x10, flattened."""
    layers, c = [], 3
    for stage in ((6, 8), (12,)):
        for width in stage:
            layers.append(nn.Conv2d(c, width, 3, padding=1, bias=norm is None))
            if norm is not None:
                layers.append(norm(width))
            layers.append(nn.ReLU())
            c = width
        layers.append(nn.MaxPool2d(2))
    net = nn.Sequential()
    net.features = nn.Sequential(*layers)
    net.classifier = nn.Linear(12 * 2 * 2, CLASSES)
    net.forward = lambda x: net.classifier(net.features(x).flatten(1))
    return net


def groups(c):
    """As model/cnn.go chooses them."""
    return {6: 1, 8: 2, 12: 3}[c]


class Block(nn.Module):
    """torchvision's BasicBlock."""

    def __init__(self, c, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or c != width:
            self.downsample = nn.Sequential(nn.Conv2d(c, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """torchvision's ResNet of one block a layer."""

    def __init__(self, large):
        super().__init__()
        self.large = large
        self.conv1 = nn.Conv2d(3, 6, 7, 2, 3, bias=False) if large else nn.Conv2d(3, 6, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.layer1 = nn.Sequential(Block(6, 6, 1))
        self.layer2 = nn.Sequential(Block(6, 10, 2))
        self.fc = nn.Linear(10, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class Recurrent(nn.Module):
    """A language model of two layers: a token's scores are those of the next."""

    def __init__(self, kind):
        super().__init__()
        self.encoder = nn.Embedding(17, 7)
        if kind in ("rnn_tanh", "rnn_relu"):
            self.rnn = nn.RNN(7, 9, 2, nonlinearity=kind[4:])
        else:
            self.rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](7, 9, 2)
        self.decoder = nn.Linear(9, 17)

    def forward(self, sequences):
        packed = nn.utils.rnn.pack_sequence([self.encoder(s) for s in sequences], enforce_sorted=False)
        padded, lengths = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.decoder(torch.cat([p[:n] for p, n in zip(padded, lengths)]))


NETWORKS = {
    "cnn-batchnorm": (vgg(nn.BatchNorm2d), (9, 10)),
    "cnn-groupnorm": (vgg(lambda c: nn.GroupNorm(groups(c), c)), (9, 10)),
    "cnn-plain": (vgg(None), (9, 10)),
    "resnet": (ResNet(False), (9, 10)),
    "resnet-large": (ResNet(True), (33, 30)),
    "rnn_tanh": (Recurrent("rnn_tanh"), None),
    "rnn_relu": (Recurrent("rnn_relu"), None),
    "lstm": (Recurrent("lstm"), None),
    "gru": (Recurrent("gru"), None),
}


def spread(net, seed):
    """Draws every tensor wide enough that all of them show in the logits."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, t in sorted(net.state_dict().items()):
            if not t.is_floating_point():
                continue
            noise = torch.randn(t.shape, generator=g)
            if name.endswith("running_var"):
                t.copy_(0.5 + noise.abs())
            elif t.dim() == 1:
                t.copy_(0.3 * noise + (0 if "bias" in name or "mean" in name else 1))
            else:
                t.copy_(noise * (1.5 / t[0].numel()) ** 0.5)


def record(out, prefix, net, x, labels):
    net.zero_grad()
    logits = net(x)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    out[prefix + "logits"], out[prefix + "loss"] = logits.detach(), loss.detach()[None]
    for name, p in net.named_parameters():
        out[f"{prefix}grad.{name}"] = p.grad


def main():
    for seed, (name, (net, size)) in enumerate(NETWORKS.items()):
        spread(net, seed)
        folder = ROOT / "engine/model/testdata/parity" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
        g = torch.Generator().manual_seed(100 + seed)
        out = {}
        if size is None:
            x = [torch.randint(17, (n,), generator=g) for n in (5, 11, 1, 11)]
            for i, ids in enumerate(x):
                out[f"ids.{i}"] = ids
            labels = torch.randint(17, (28,), generator=g)
        else:
            x = torch.randn(4, 3, *size, generator=g)
            labels = torch.randint(CLASSES, (4,), generator=g)
            out["images"] = x
        out["labels"] = labels
        record(out, "", net.train(), x, labels)
        for k, v in net.named_buffers():
            if v.is_floating_point():
                out["after." + k] = v.clone()
        record(out, "eval.", net.eval(), x, labels)
        save_file({k: v.contiguous() for k, v in out.items()}, folder / "golden.safetensors")
        kb = sum(f.stat().st_size for f in folder.iterdir()) / 1000
        print(f"{name:16} loss {out['loss'].item():.4f}, in evaluation {out['eval.loss'].item():.4f}, {kb:.0f} kB")


if __name__ == "__main__":
    main()
