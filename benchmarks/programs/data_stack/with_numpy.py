"""Linear algebra: BLAS and LAPACK."""

import numpy

square = numpy.random.default_rng(1).random((300, 300))
inverse = numpy.linalg.inv(square)
print(numpy.allclose(square @ inverse, numpy.eye(300)), round(float(numpy.linalg.svd(square)[1][0]), 3))
