from regie_chassis.data.migrations import run_environment
from regie_gateway.tables import metadata

run_environment(metadata)
