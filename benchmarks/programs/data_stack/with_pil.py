"""A picture, smaller, as JPEG."""

from PIL import Image

Image.new("RGB", (640, 480), "red").resize((64, 48)).save("picture.jpeg")
print(Image.open("picture.jpeg").size)
