"""Trains every network that it is given, in each of the processes that torchrun starts.

usage: torchrun --nproc-per-node 2 -m tests.train.two_processes FOLDER IMAGES MODEL...
"""

import json
import sys
from pathlib import Path

import torch

from harness.data.testsets import register_testsets
from harness.errors import HarnessError
from harness.registry import load_plugins
from harness.train import loop
from harness.train.loop import Trainer
from harness.train.plan import plan_training
from harness.train.spec import TrainRequest
from tests.train.trainings import STRANGERS, Interrupting

VALUES = {"steps": 6, "batch": 4, "patch": 8, "val_images": 0}


def main(folder: str, images: str, *models: str) -> None:
    """Train each for some steps of six, and write down what the listener was told."""
    torch.set_num_threads(1)
    loop.leave_together = torch.distributed.barrier  # one group for all of them
    register_testsets()
    load_plugins((STRANGERS,))
    for model in models:
        changes = VALUES | {"train_data": (images,)}
        request = TrainRequest(
            model, changes=changes, folder=Path(folder), device="cpu", log_every=2
        )
        training = plan_training(request)
        listener = Interrupting(2)
        try:
            trainer = Trainer(training, listener, resume=False)
            trainer.run()
        except KeyboardInterrupt:
            said = json.dumps([*trainer.training.notes, *listener])
        except HarnessError as error:
            said = json.dumps(f"{model} fails: {error}")
        if torch.distributed.get_rank() == 0:
            training.folder.mkdir(parents=True, exist_ok=True)
            (training.folder / "said.json").write_text(said)
    torch.distributed.barrier()  # a process that leaves earlier breaks the connections of the other
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
