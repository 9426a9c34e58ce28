"""lm-evaluation-harness: its tasks on our engines. Nothing here imports ``lm_eval`` before it is used.

``model`` is an engine as lm-eval sees a language model, ``tasks`` turns a task into a quality metric.
"""

#: What the names of these metrics begin with; the task's own name follows.
METRIC = "lm_eval:"
