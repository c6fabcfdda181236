"""Draw the bundled sample, a stand-in for CIFAR-10, from openly licensed emoji.

    python make_sample.py [FOLDER]

The glyphs come from three npm packages: emoji-datasource-google (Noto Emoji),
emoji-datasource-twitter (Twemoji) and @lobehub/fluent-emoji-3d (Fluent Emoji). FOLDER
holds their archives, in the versions that `PACKAGES` names; without it `npm pack`
fetches them into a temporary folder (npm comes with Node.js). The result is written to
`sample/` next to this file.
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

PACKAGES = {  # style: npm package, sha256 of its archive, glyph folder, file ending
    "noto": (
        "emoji-datasource-google@16.0.0",
        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        "package/img/google/64",
        "png",
    ),
    "twemoji": (
        "emoji-datasource-twitter@16.0.0",
        "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
        "package/img/twitter/64",
        "png",
    ),
    "fluent": (
        "@lobehub/fluent-emoji-3d@1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        "package/assets",
        "webp",
    ),
}

# Side views where there are any, so that left and right differ. As in CIFAR-10, a
# truck is a big truck, and no class has pickup trucks.
GLYPHS = {
    "airplane": ["2708-fe0f", "1f6e9-fe0f", "1f6eb", "1f6ec"],
    "automobile": ["1f697", "1f699", "1f695", "1f693"],
    "bird": ["1f426", "1f985", "1f986", "1f99c", "1f54a-fe0f", "1f9a2", "1fabf"],
    "cat": ["1f408", "1f408-200d-2b1b"],
    "deer": ["1f98c", "1face"],
    "dog": ["1f415", "1f429", "1f9ae", "1f415-200d-1f9ba"],
    "frog": ["1f438"],
    "horse": ["1f434", "1f40e", "1f3c7", "1f3a0"],
    "ship": ["1f6a2", "26f4-fe0f", "1f6f3-fe0f", "26f5", "1f6a4", "1f6e5-fe0f"],
    "truck": ["1f69a", "1f69b", "1f692"],
}
CLASSES = list(GLYPHS)

# Looked at one by one: all other glyphs face left or straight ahead.
FACE_RIGHT = {(style, code) for style in PACKAGES for code in GLYPHS["airplane"]}
FACE_RIGHT.add(("noto", "26f5"))


@dataclass(frozen=True)
class Conditions:
    """The glyph styles of a split, and how likely each change to an image is."""

    styles: tuple[str, ...]
    mirrored: float = 0.0
    moved: float = 0.0  # off the centre, and mostly larger
    recolored: float = 0.0


# Each change comes on its own or with others, so that each augmentation alone helps.
TRAIN = Conditions(styles=("noto", "twemoji"))
TEST = Conditions(
    styles=("noto", "twemoji", "fluent"), mirrored=0.5, moved=0.5, recolored=0.5
)
SPLITS = {  # conditions, images, columns; the place in this list is the seed
    "train": (TRAIN, 2000, 40),
    "test": (TEST, 1000, 25),
    "val": (TEST, 1000, 25),  # for choosing a policy, so that the test set stays unused
}
SIDE = 32
SCALE = 2  # drawn at twice the size, then halved, for smooth edges


def fetch(folder: Path) -> None:
    """Fetch the three archives with npm into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm not found: install Node.js or name a folder of archives")
    for package, *_ in PACKAGES.values():
        subprocess.run([npm, "pack", package, "--silent"], cwd=folder, check=True)


def read_archive(folder: Path, package: str, sha256: str) -> tarfile.TarFile:
    """Open the archive of a package after checking its sha256."""
    name = package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz"
    data = (folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{name}: not the archive this sample is made from (sha256)")
    return tarfile.open(fileobj=io.BytesIO(data))


def trim(glyph: Image.Image) -> Image.Image:
    """Cut off the transparent border and centre the rest on a square."""
    glyph = glyph.crop(glyph.getchannel("A").getbbox())
    side = max(glyph.size)
    square = Image.new("RGBA", (side, side))
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return square


def load_glyphs(folder: Path) -> dict[str, dict[str, list[Image.Image]]]:
    """Return the glyphs by style and class, all facing left."""
    glyphs = {}
    for style, (package, sha256, where, ending) in PACKAGES.items():
        glyphs[style] = {}
        with read_archive(folder, package, sha256) as archive:
            names = set(archive.getnames())
            for label, codes in GLYPHS.items():
                glyphs[style][label] = []
                for code in codes:
                    name = f"{where}/{code}.{ending}"
                    if name not in names:  # the packages disagree on the suffix
                        name = f"{where}/{code.removesuffix('-fe0f')}.{ending}"
                    glyph = trim(Image.open(archive.extractfile(name)).convert("RGBA"))
                    if (style, code) in FACE_RIGHT:
                        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                    glyphs[style][label].append(glyph)
    return glyphs


def draw_background(rng: np.random.Generator) -> Image.Image:
    """Return a pale sky that fades into a pale ground."""
    colors = rng.integers(130, 256, (2, 1, 3), dtype=np.uint8)
    return Image.fromarray(colors).resize((SIDE * SCALE,) * 2, Image.Resampling.BICUBIC)


def shift_hue(image: Image.Image, fraction: float) -> Image.Image:
    """Turn the colour circle by a fraction of a full turn."""
    hue, saturation, value = image.convert("HSV").split()
    turn = round(fraction * 255)
    hue = hue.point([(angle + turn) % 256 for angle in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def recolor(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change the light: mostly darker and paler, and in other colours."""
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.0))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.8, 1.1))
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.5, 1.3))
    return shift_hue(image, rng.uniform(-0.15, 0.15))


def draw_image(
    glyph: Image.Image, conditions: Conditions, rng: np.random.Generator
) -> np.ndarray:
    """Draw one glyph under the given conditions; (32, 32, 3) uint8."""
    mirrored, moved, recolored = rng.random(3) < (
        conditions.mirrored,
        conditions.moved,
        conditions.recolored,
    )
    canvas = draw_background(rng)
    size = rng.uniform(*((1.0, 1.5) if moved else (0.75, 0.85)))  # of the image
    shift = rng.uniform(-1, 1, 2) * (0.13 if moved else 0.04)
    if mirrored:
        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = round(size * canvas.width)
    glyph = glyph.resize((pixels, pixels), Image.Resampling.BICUBIC)
    glyph = glyph.rotate(rng.uniform(-5, 5), Image.Resampling.BICUBIC)
    left, top = np.rint((canvas.width - pixels) / 2 + shift * canvas.width)
    canvas.paste(glyph, (int(left), int(top)), glyph)
    image = canvas.reduce(SCALE)
    return np.asarray(recolor(image, rng) if recolored else image)


def draw_split(
    glyphs: dict, conditions: Conditions, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return n images, as many of each class, in random order, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % len(CLASSES))
    images = []
    for label in labels:
        style = conditions.styles[rng.integers(len(conditions.styles))]
        choices = glyphs[style][CLASSES[label]]
        glyph = choices[rng.integers(len(choices))]
        images.append(draw_image(glyph, conditions, rng))
    return np.stack(images), labels


def tile(images: np.ndarray, columns: int) -> Image.Image:
    """Lay the images out row by row on one sheet."""
    rows = images.reshape(-1, columns, SIDE, SIDE, 3).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(-1, columns * SIDE, 3))


def make_sample(folder: Path, out: Path) -> None:
    """Write an image sheet for each split, and `labels.json`."""
    glyphs = load_glyphs(folder)
    out.mkdir(exist_ok=True)
    index = {"classes": CLASSES}
    for seed, (split, (conditions, n, columns)) in enumerate(SPLITS.items()):
        images, labels = draw_split(glyphs, conditions, n, seed)
        tile(images, columns).save(out / f"{split}.png", optimize=True)
        index[split] = labels.tolist()
    (out / "labels.json").write_text(json.dumps(index) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the bundled sample.")
    parser.add_argument("folder", type=Path, nargs="?", help="the three npm archives")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        if given is None:
            fetch(Path(temporary))
        make_sample(given or Path(temporary), Path(__file__).parent / "sample")
