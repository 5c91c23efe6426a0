"""A forest and clusters: OpenMP."""

from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier

points, labels = make_blobs(400, centers=3, random_state=1)
forest = RandomForestClassifier(20, random_state=1).fit(points, labels)
means = KMeans(3, n_init=2, random_state=1).fit(points)
print(forest.score(points, labels), sorted(map(int, set(means.labels_))))
