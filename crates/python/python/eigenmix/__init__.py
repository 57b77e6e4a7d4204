"""Recycle LoRA adapters: extract the subspace they share, train in it, merge them.

The engine is that of the command line, in this process::

    import eigenmix

    eigenmix.extract(["adapters/gym", "adapters/library"], "shared")
    run = eigenmix.train("train.toml")
    print(run.test, run.adapter)

`eigenmix.peft` puts trainable coefficients on a recycled basis into any PyTorch model; it needs torch.
Notes go to the logger ``eigenmix``, warnings to `warnings` as `EigenmixWarning`.
"""

from __future__ import annotations

from ._engine import __version__
from .adapters import Adapter, Exported, Factors, export, inspect
from .calls import PathLike, call
from .errors import EigenmixError, EigenmixWarning
from .evaluation import Evaluation, Prediction, evaluate, predict
from .experiments import Arm, Report, run
from .merging import Merged, SearchedMerge, merge, merge_search
from .progress import Progress, ProgressOption
from .subspaces import Extraction, ProjectedAdapter, Subspace, extract, project
from .training import Configuration, Run, train

__all__ = [
    "Adapter",
    "Arm",
    "Configuration",
    "EigenmixError",
    "EigenmixWarning",
    "Evaluation",
    "Exported",
    "Extraction",
    "Factors",
    "Merged",
    "PathLike",
    "Prediction",
    "Progress",
    "ProgressOption",
    "ProjectedAdapter",
    "Report",
    "Run",
    "SearchedMerge",
    "Subspace",
    "__version__",
    "call",
    "evaluate",
    "export",
    "extract",
    "inspect",
    "merge",
    "merge_search",
    "predict",
    "project",
    "run",
    "train",
]
