"""Every endpoint of the v2 contract, and the live stream."""

import consumers  # noqa: F401  the cases register themselves
import metadata  # noqa: F401
import produce  # noqa: F401
import stream  # noqa: F401
from checks import run_cases

run_cases()
