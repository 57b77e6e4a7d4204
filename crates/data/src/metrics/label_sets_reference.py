"""The expected values in the tests of label_sets.rs, by scikit-learn (written with 1.9.1)."""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

EXPECTED = [[0, 2], [], [1], [0, 1, 2], [4], [2], [0], []]
PREDICTED = [[0, 2], [], [1, 2], [0, 2], [], [0], [0], [1]]


def indicators(lists):
    matrix = np.zeros((len(lists), 5), dtype=int)
    for row, labels in enumerate(lists):
        matrix[row, labels] = 1
    return matrix


expected, predicted = indicators(EXPECTED), indicators(PREDICTED)
print("micro f1", repr(float(f1_score(expected, predicted, average="micro", zero_division=0))))
print("macro f1", repr(float(f1_score(expected, predicted, average="macro", zero_division=0))))
print("subset accuracy", repr(float(accuracy_score(expected, predicted))))
for figures in zip(*precision_recall_fscore_support(expected, predicted, zero_division=0)):
    print([figure.item() for figure in figures])
