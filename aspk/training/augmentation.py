"""Images as training sees them: RandAugment, random erasing and mixup, by torchvision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.data import DataSet
from aspk.errors import TrainingError
from aspk.spec.settings import Recipe

_GROUP = 16  # images that share one draw of RandAugment's operations


def augment(
    images: Tensor, labels: Tensor, recipe: Recipe, data: DataSet, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Images and the class shares of their labels, changed as the recipe says.

    Args:
        images: standardised, [B, C, H, W] or sequences [B, frames, C, H, W].
        labels: [B].
        recipe: says what to do.
        data: knows the standardisation; RandAugment works on pixels between 0 and 1.
        seed: of all draws; the same seed changes the same images in the same way.

    Returns:
        Images of the same shape, and shares [B, classes] that sum to 1 for each image.

    Raises:
        TrainingError: torchvision does not import; or RandAugment is to change event counts, images of other
            than 1 or 3 channels, or those of a data set that does not say how it was standardised.
    """
    try:
        from torchvision import tv_tensors  # noqa: PLC0415  # heavy, and not in every recipe
        from torchvision.transforms import v2  # noqa: PLC0415  # as above
    except (ImportError, RuntimeError) as error:
        raise TrainingError(f"augment, erase and mixup need torchvision: {error}") from None
    shares = F.one_hot(labels, data.classes).to(images.dtype)
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # torchvision draws from the global generator
        torch.manual_seed(seed)
        if recipe.augment:
            if images.dim() == 5:
                raise TrainingError(
                    "augment: RandAugment takes pictures, with pixels between 0 and 1, not event counts: "
                    "set augment = 0"
                )
            if data.shape[0] not in (1, 3):
                raise TrainingError(
                    f"augment: RandAugment takes grey or colour images, not {data.shape[0]} channels"
                )
            mean, std = _standardisation(data, images)
            pixels = (images * std + mean).clamp(0, 1)
            change = v2.RandAugment(magnitude=recipe.augment)
            changed = torch.cat([change(group) for group in torch.split(pixels, _GROUP)])
            images = (changed - mean) / std
        if recipe.erase:
            erase = v2.RandomErasing(recipe.erase)
            images = torch.stack([erase(image) for image in images])
        if recipe.mixup:
            batch = tv_tensors.Video(images) if images.dim() == 5 else images  # or it refuses sequences
            mixed, shares = v2.MixUp(alpha=recipe.mixup, num_classes=data.classes)(batch, labels)
            images = mixed.as_subclass(Tensor)
    return images, shares


def _standardisation(data: DataSet, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, [C, 1, 1]."""
    if data.standardisation is None:
        raise TrainingError(f"augment: data set {data.name!r} does not say how its pixels were standardised")
    values = torch.tensor(data.standardisation, dtype=like.dtype, device=like.device)  # [C, 2]
    return values[:, 0, None, None], values[:, 1, None, None]
