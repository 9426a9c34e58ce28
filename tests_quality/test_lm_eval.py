"""Tasks of lm-evaluation-harness: those that a configuration names under quality.lm_eval.tasks; see docs/lm_eval.md."""

import pytest

pytestmark = pytest.mark.eg_quality


def test_lm_eval(lm_eval_task, quality, gate):
    assert gate.lm_eval(quality(lm_eval_task))
