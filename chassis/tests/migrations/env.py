from __future__ import annotations

from regie_chassis.data.migrations import run_environment
from sqlalchemy import MetaData

run_environment(MetaData())
