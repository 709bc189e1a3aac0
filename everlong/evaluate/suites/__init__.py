"""Long-context suites: examples of any length, generated offline from a seed, answered by streaming.

score = measure_suite(model, codec, SUITES["passkey"], name="passkey", length=4096, count=20)
loader = TaskLoader(AssociativeRecall(pairs=8, vocabulary=64), window=64, batch=32, seed=0)
"""

from everlong.evaluate.suites.answers import Reply, accuracy, replies
from everlong.evaluate.suites.choices import Choices, choices
from everlong.evaluate.suites.copying import CopyingTask, InductionTask, SelectiveCopyingTask
from everlong.evaluate.suites.example import Example, Suite, examples
from everlong.evaluate.suites.measured import Outcome, Score, by_depth, check_length, measure_suite, wilson
from everlong.evaluate.suites.perturbations import PERTURBATIONS
from everlong.evaluate.suites.prompt_length import PromptLength, prompt_length
from everlong.evaluate.suites.recall import AssociativeRecall
from everlong.evaluate.suites.registry import SUITES, selected, suite
from everlong.evaluate.suites.robustness import Robustness, robustness
from everlong.evaluate.suites.speed import Speed, speed
from everlong.evaluate.suites.tasks import Drawn, Task, TaskLoader, TextTask

__all__ = [
    "PERTURBATIONS",
    "SUITES",
    "AssociativeRecall",
    "Choices",
    "CopyingTask",
    "Drawn",
    "Example",
    "InductionTask",
    "Outcome",
    "PromptLength",
    "Reply",
    "Robustness",
    "Score",
    "SelectiveCopyingTask",
    "Speed",
    "Suite",
    "Task",
    "TaskLoader",
    "TextTask",
    "accuracy",
    "by_depth",
    "check_length",
    "choices",
    "examples",
    "measure_suite",
    "prompt_length",
    "replies",
    "robustness",
    "selected",
    "speed",
    "suite",
    "wilson",
]
