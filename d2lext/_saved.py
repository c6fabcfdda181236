"""Collected from notebooks/: which module holds each saved name."""

NAMES = {
    "apply": "flip",
    "as_image": "flip",
    "set_figsize": "flip",
    "show_images": "flip",
}
