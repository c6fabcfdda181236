"""Collected from notebooks/: which module holds each saved name."""

NAMES = {
    "PictureDataset": "cifar10",
    "apply": "flip",
    "as_image": "flip",
    "default_workers": "cifar10",
    "load_cifar10": "cifar10",
    "set_figsize": "flip",
    "show_images": "flip",
}
