"""Collected from notebooks/10_questions.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

# fmt: off
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional


# 10_questions.ipynb: save-film
def film(X, frames=10):
    """Return a clip of each image: n * frames images, clip after clip.

    Between frames the camera moves by up to a pixel, and the light changes by up to 5%.

    X: (n, 32, 32, 3), uint8.
    """
    n, spare = len(X), 4
    padded = F.pad(X.permute(0, 3, 1, 2).float(), (spare,) * 4, mode="replicate")
    place, light = torch.full((n, 2), spare), torch.ones(n)
    clips = []
    for _ in range(frames):
        windows = [
            x[:, i : i + 32, j : j + 32]
            for x, (i, j) in zip(padded, place.tolist(), strict=True)
        ]
        shown = torch.stack(windows) * light.reshape(-1, 1, 1, 1)
        clips.append(shown.round().clamp(0, 255).byte().permute(0, 2, 3, 1))
        place = (place + torch.randint(-1, 2, (n, 2))).clamp(0, 2 * spare)
        light = (light + 0.05 * torch.randint(-1, 2, (n,))).clamp(0.6, 1.2)
    return torch.stack(clips, 1).flatten(0, 1)


# 10_questions.ipynb: save-camera
def new_camera(X):
    """Return the images as another camera sees them: tilted, blurred, dark.

    X: (n, 32, 32, 3), uint8.
    """
    X = functional.rotate(X.permute(0, 3, 1, 2).float(), 20)
    X = F.avg_pool2d(F.pad(X, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return (0.5 * X).round().byte().permute(0, 2, 3, 1).contiguous()
