"""What scores some slots of an index for one query."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models import Scores

Near = Callable[[NDArray[np.int64]], Scores]
"""(c,) slots to (c,) scores, higher is better."""
