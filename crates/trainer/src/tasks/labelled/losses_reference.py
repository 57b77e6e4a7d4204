"""The expected values in the tests of cross_entropy.rs, binary_cross_entropy.rs and host_loss.rs, by
PyTorch (written with 2.15.0)."""

import torch
from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss


def show(loss, logits, targets):
    logits = torch.tensor(logits, requires_grad=True)
    value = loss(logits, targets)
    value.backward()
    print(value.item(), logits.grad.flatten().tolist())


LOGITS = [[0.5, -1.0, 2.0], [0.25, 0.75, -0.5], [1.5, 0.0, -2.0], [-0.25, 3.0, 0.125]]
CLASSES = torch.tensor([2, 0, 1, 0])
WEIGHTS = torch.tensor([0.5, 3.0, 1.25])
for weight, smoothing in [(None, 0.0), (WEIGHTS, 0.0), (None, 0.1), (WEIGHTS, 0.2)]:
    show(CrossEntropyLoss(weight=weight, label_smoothing=smoothing), LOGITS, CLASSES)

LOGITS = [[0.5, -1.0, 2.0], [0.25, -30.0, 0.0]]
LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
for weight in [None, torch.tensor([2.0, 0.5, 3.0])]:
    show(BCEWithLogitsLoss(pos_weight=weight), LOGITS, LABELS)
