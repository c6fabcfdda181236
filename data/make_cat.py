"""Make cat.jpg, the image of lessons 01 to 04, from scikit-image's `data.cat()`.

Run once, with scikit-image installed: `python data/make_cat.py`. The original is
300 x 451 pixels, by Stefan van der Walt, CC0. The course shows the book's 400 x 500.
"""

from pathlib import Path

from PIL import Image
from skimage import data

cat = Image.fromarray(data.cat())
width = cat.height * 500 // 400
left = 40  # keeps the whole face in the image
cat = cat.crop((left, 0, left + width, cat.height)).resize((500, 400), Image.LANCZOS)
cat.save(Path(__file__).with_name("cat.jpg"), quality=88)
