"""Rows for other programs' own stores: Parquet (pyarrow), MLflow and Weights & Biases, each without a network.

Nothing here is fatal: what cannot be exported is told in one line, and what was run stays as it is.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

Record = Mapping[str, object]
PACKAGES = {"parquet": "pyarrow", "mlflow": "mlflow", "wandb": "wandb"}
PROJECT = "vlm-gauntlet"
RUN_FIELDS = ("method", "backbone", "dataset", "norm", "eps", "modality", "seed")  # what names a row


def send(kind: str, records: Sequence[Record], out: Path) -> str:
    """Exports rows into a folder.

    Args:
        kind: `parquet`, `mlflow` or `wandb`.
        records: flat rows (`exports.record`).
        out: folder, made where it is absent.

    Returns:
        What went wrong, in one line; empty where nothing did.
    """
    package = PACKAGES[kind]
    if find_spec(package) is None:
        extra = " or pip install 'vlm-gauntlet[export]'" if kind == "parquet" else ""
        return f"not exported: the package {package} is not installed; pip install {package}{extra}"
    writers: dict[str, Callable[[Sequence[Record], Path], None]] = {
        "parquet": _parquet, "mlflow": _mlflow, "wandb": _wandb,
    }  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
        writers[kind](records, out)
    except Exception as error:  # a library of somebody else may raise anything
        told = " ".join(str(error).split())[:200]
        return f"not exported: {package} raised {type(error).__name__}: {told}"
    return ""


def _parquet(records: Sequence[Record], out: Path) -> None:
    """`results.parquet`: a row a row, with the types of the fields; written beside and renamed."""
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    fresh = out / ".results.parquet.new"
    parquet.write_table(pyarrow.Table.from_pylist([dict(record) for record in records]), fresh)
    os.replace(fresh, out / "results.parquet")


def _mlflow(records: Sequence[Record], out: Path) -> None:
    """A store of files, `mlruns/`: a run a row; the names are tags, the numbers metrics."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    client = MlflowClient(tracking_uri=(out / "mlruns").resolve().as_uri())
    known = client.get_experiment_by_name(PROJECT)
    experiment = known.experiment_id if known else client.create_experiment(PROJECT)
    for record in records:
        run = client.create_run(experiment, run_name=_title(record), tags=_words(record))
        for name, value in _numbers(record).items():
            client.log_metric(run.info.run_id, name, value)
        client.set_terminated(run.info.run_id)


def _wandb(records: Sequence[Record], out: Path) -> None:
    """One offline run with all rows as a table of it, to be sent with `wandb sync` by who wants to."""
    import wandb  # pyright: ignore[reportMissingImports]

    settings = wandb.Settings(silent=True, console="off", disable_git=True)
    run = wandb.init(project=PROJECT, mode="offline", dir=str(out.resolve()), settings=settings)
    columns = list(records[0]) if records else []
    run.log({"rows": wandb.Table(columns=columns, data=[[record[c] for c in columns] for record in records])})
    run.finish()


def _title(record: Record) -> str:
    return "-".join(str(record[name]) for name in RUN_FIELDS)


def _words(record: Record) -> dict[str, str]:
    return {name: str(value) for name, value in record.items() if isinstance(value, str) and value}


def _numbers(record: Record) -> dict[str, float]:
    return {name: float(value) for name, value in record.items() if isinstance(value, int | float)}
