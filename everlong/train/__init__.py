"""Training: one loop for every architecture, checkpoints that survive anything, and runs that can be loaded again.

result = train(everlong.config("window:tiny"), Trainer.Config(steps=1000), folder="runs/first")
run = load_run("runs/first")
"""

from everlong.train.callbacks import Callback, JsonLines, TensorBoard, read_records
from everlong.train.checkpoints import Checkpoints
from everlong.train.console import ConsoleProgress
from everlong.train.optimizers import AdamW, Muon, Optimizer
from everlong.train.progress import Progress, Record, Result, Step
from everlong.train.roofline import matmul_rate
from everlong.train.run import DataConfig, Run, RunConfig, load_run
from everlong.train.schedules import WSD, Cosine, Linear, Schedule
from everlong.train.session import train
from everlong.train.trainer import Trainer
from everlong.train.validation import Validation
from everlong.train.weights import model_fingerprint

__all__ = [
    "WSD",
    "AdamW",
    "Callback",
    "Checkpoints",
    "ConsoleProgress",
    "Cosine",
    "DataConfig",
    "JsonLines",
    "Linear",
    "Muon",
    "Optimizer",
    "Progress",
    "Record",
    "Result",
    "Run",
    "RunConfig",
    "Schedule",
    "Step",
    "TensorBoard",
    "Trainer",
    "Validation",
    "load_run",
    "matmul_rate",
    "model_fingerprint",
    "read_records",
    "train",
]
