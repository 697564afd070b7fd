"""The bounds of the product, by name. Pure: numbers only, imported by every layer, imports nothing.

Each bound names its unit last and says what happens at it. A deployment's own settings live in config/; what stands
here is fixed in a release, because the wire format, the store and the documentation rely on it. The modules of this
folder hold the bounds by subject; all are imported from here.
"""

# ruff: noqa: F403
from __future__ import annotations

from zsched.model.limits.access import *
from zsched.model.limits.client import *
from zsched.model.limits.host import *
from zsched.model.limits.jobs import *
from zsched.model.limits.liveness import *
from zsched.model.limits.postgres import *
from zsched.model.limits.rest import *
from zsched.model.limits.sizes import *
from zsched.model.limits.standby import *
from zsched.model.limits.turn import *
from zsched.model.limits.wire import *
from zsched.model.limits.worker import *
