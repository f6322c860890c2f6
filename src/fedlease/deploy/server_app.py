"""The Flower ServerApp: it reads where the specification is from the run's config, and serves it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlease.core.errors import FedLeaseError
from fedlease.deploy.server import serve
from fedlease.engines.mailbox import Mailbox
from fedlease.experiments.spec import read_spec

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation to its end, from where it stands."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
    path = Path(str(context.run_config["spec"]))
    try:
        serve(read_spec(path), path.resolve().parent, Path(str(context.run_config["out"])), Mailbox(grid))
    except FedLeaseError as error:
        print(f"fedlease: {error}", file=sys.stderr, flush=True)
        raise
