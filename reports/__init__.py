"""What a run leaves on disk, and from there to statistics and pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(*runs: Path | str) -> pd.DataFrame:
    """The episodes of the runs at or below these paths, for notebooks: one row for the final attempt at each scene.

    Columns: `policy` (with its mark if privileged), `run` (folder), then every field of a record; `metrics.NAME` and
    `seconds.PHASE` for their parts; `success` (boolean, missing where nothing was scored). Raises ReportError,
    ManifestError or RecordError.
    """
    import pandas as pd

    from reports import summary
    from reports.records import FILE_NAME, RecordStore

    tables = []
    for run in summary.load(runs):
        with RecordStore(run.folder / FILE_NAME) as store:
            table = store.frame()
        success = (table["outcome"] == "success").astype("boolean").mask(table["outcome"] == "void")
        table.insert(0, "success", success)
        table.insert(0, "run", str(run.folder))
        table.insert(0, "policy", run.label)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
