import operator
import os

import pytest

from training.bench.peak_memory import in_own_process
from transform.errors import CheckpointError


def test_a_function_works_in_a_process_of_its_own():
    assert in_own_process("question", os.getpid) != os.getpid()
    assert in_own_process("sum", operator.add, 2, 3) == 5


@pytest.mark.parametrize(
    ("work", "given", "why"), [(operator.truediv, (1, 0), "division by zero"), (os._exit, (3,), "terminated")]
)
def test_work_that_fails_is_a_sentence(work, given, why):
    with pytest.raises(CheckpointError, match=f"the latent of 60 s failed: .*{why}"):
        in_own_process("latent of 60 s", work, *given)
