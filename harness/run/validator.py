"""Validating while training goes on: it may be left out, and costs no step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import device, nn

from harness.errors import HarnessError
from harness.global_state import numerics_kept, random_state_kept
from harness.models.network import copy_network
from harness.models.resources import is_memory
from harness.run.clock import Deadline
from harness.run.training import Training
from harness.run.validation import Scores, ValidationError, ValidationImages


class Validator:
    """Scores the average network, and leaves that out where time or memory is short.

    Args:
        training: what is trained; without validation images, once they are left out.
        deadline: what a validation must leave time for.
        told: gets sentences for the user.
    """

    def __init__(self, training: Training, deadline: Deadline, told: Callable[[str], None]) -> None:
        self.training = training
        self._deadline, self._told = deadline, told

    def first(self, network: nn.Module, step: int, enough: Callable[[], bool]) -> Scores | None:
        """Try a validation before there is anything to lose, and say from where training starts.

        Before a deadline, one that takes too long is left out for good. Arguments, result and
        errors are those of a call.
        """
        count = len(self.training.validation)
        self._told(f"The network is scored on {count} image{'' if count == 1 else 's'} first")
        scores = self(network, step, enough)
        if scores and (means := scores.means()):
            psnr, ssim = means
            self._told(f"The validation begins at {psnr:.3f} dB / {ssim:.4f}")
        seconds = self._deadline.longest("validation")
        if self.training.validation and self._deadline.left() < 2 * seconds:
            self._leave_out(f"It takes {seconds:.0f} s, too long for the time left")
        return scores

    def __call__(self, network: nn.Module, step: int, enough: Callable[[], bool]) -> Scores | None:
        """Score a network by the evaluation code itself, in fp32; nothing of it is changed.

        Args:
            network: to score.
            step: that is in the checkpoint; 0 where there is none.
            enough: see `harness.run.validation.validate`.

        Returns:
            the scores; None where it was broken off, or left out for lack of memory.

        Raises:
            HarnessError: it cannot be scored on one of the images.
        """
        where = device(self.training.device)
        try:
            with numerics_kept(), random_state_kept(where), self._deadline.measured("validation"):
                # A copy: to be scored it may be moved, and a recorded step writes where it lay.
                return self.training.validate(copy_network(network), enough)
        except ValidationError as error:
            saved = f"step {step} is saved, go on with --resume and" if step else "use"
            raise HarnessError(
                f"{error}: {saved} other images (--val-data) or none (--set val_images=0)."
            ) from error
        except Exception as error:  # what a network raises may be anything
            if not is_memory(error):
                raise
            image = f" on {error}" if isinstance(error, MemoryError) else ""
            self._leave_out(f"The memory of {where} is too small to validate{image}")
        return None

    def _leave_out(self, why: str) -> None:
        self._deadline.leave_out("validation")
        self.training = replace(self.training, validation=ValidationImages())
        self._told(f"{why}: training goes on without validation")
