"""Linear algebra and optimisation."""

import numpy
import scipy.linalg
import scipy.optimize

lower = scipy.linalg.cholesky(numpy.array([[4.0, 2.0], [2.0, 3.0]]), lower=True)
found = scipy.optimize.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] + 2) ** 2, [0.0, 0.0])
print(lower.round(3).tolist(), found.x.round(3).tolist())
