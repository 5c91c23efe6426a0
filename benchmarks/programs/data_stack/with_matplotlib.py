"""A picture of a curve."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plot

figure, axes = plot.subplots()
axes.plot([1, 4, 9])
figure.savefig("picture.png")
with open("picture.png", "rb") as file:
    print(file.read(4))
