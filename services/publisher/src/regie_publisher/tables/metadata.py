"""The metadata that all tables of the publisher share, and the forms of columns that recur."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

TIME = sa.DateTime(timezone=True)
EMPTY: sa.ColumnElement[str] = sa.literal_column("''")
NONE: sa.ColumnElement[str] = sa.literal_column("'{}'")
ZERO: sa.ColumnElement[int] = sa.literal_column("0")
